package etcdstore_test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
)

// A rule says what a proxy does from the request on that contains a text.
type rule int

const (
	passOn       rule = iota
	dropRequest       // the connection ends before the request reached the server
	dropResponse      // the connection ends before the response reached the client
	holdRequest       // the connection ends, and the server gets the request at release
)

// A proxy stands between a client and one server, and cuts a connection where the
// test wants it. It does so once for each rule.
type proxy struct {
	listener net.Listener
	server   string
	wg       sync.WaitGroup

	mu    sync.Mutex
	rule  rule
	text  []byte
	cuts  bool // whether the rule is followed by a cut
	down  bool // whether the network is cut: there are no new connections
	held  []func()
	conns map[net.Conn]bool
}

// startProxy starts a proxy of server and ends it with the test.
func startProxy(t *testing.T, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, server: server, conns: map[net.Conn]bool{}}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for c := range p.conns {
			_ = c.Close()
		}
		p.conns = nil
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// set sets the rule for the next request that contains text.
func (p *proxy) set(r rule, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule, p.text = r, []byte(text)
}

// cut ends all connections, and takes no more.
func (p *proxy) cut() {
	_ = p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// cutAt sets the rule as set does, for a network that is cut there until heal.
func (p *proxy) cutAt(r rule, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule, p.text, p.cuts = r, []byte(text), true
}

// heal ends a cut.
func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts, p.down = false, false
}

// left returns the rule that has met no request.
func (p *proxy) left() rule {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rule
}

// release sends the requests that are held.
func (p *proxy) release() {
	p.mu.Lock()
	held := p.held
	p.held = nil
	p.mu.Unlock()
	for _, send := range held {
		send()
	}
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		if !p.keep(client, server) {
			return
		}
		p.wg.Go(func() { p.requests(client, server) })
	}
}

// keep has the connections closed at the end of the test.
func (p *proxy) keep(client, server net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		_ = client.Close()
		_ = server.Close()
		return true
	}
	if p.conns == nil {
		_ = client.Close()
		_ = server.Close()
		return false
	}
	p.conns[client], p.conns[server] = true, true
	return true
}

// requests copies from client to server until a rule ends it.
func (p *proxy) requests(client, server net.Conn) {
	answer := &responses{client: client, answered: make(chan struct{})}
	p.wg.Go(func() {
		defer answer.end()
		_, _ = io.Copy(answer, server) // ends when the server or the test closes it
		_ = client.Close()
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if n > 0 {
			switch p.match(buf[:n]) {
			case dropRequest:
				_ = client.Close()
				_ = server.Close()
				return
			case dropResponse:
				answer.drop()
				_, _ = server.Write(buf[:n])
				<-answer.answered
				_ = client.Close()
				_ = server.Close()
				return
			case holdRequest:
				request := bytes.Clone(buf[:n])
				answer.drop()
				p.hold(func() {
					_, _ = server.Write(request)
					<-answer.answered
					_ = server.Close()
				})
				_ = client.Close()
				return
			}
			if _, err := server.Write(buf[:n]); err != nil {
				_ = client.Close()
				return
			}
		}
		if err != nil {
			_ = server.Close()
			return
		}
	}
}

func (p *proxy) match(request []byte) rule {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rule == passOn || !bytes.Contains(request, p.text) {
		return passOn
	}
	r := p.rule
	p.rule, p.down = passOn, p.cuts
	return r
}

func (p *proxy) hold(send func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = append(p.held, send)
}

// responses passes on what the server sends until it is told to drop it, and then
// tells when the answer to a request is complete.
type responses struct {
	client net.Conn

	mu       sync.Mutex
	dropping bool
	answered chan struct{} // closed when it is
	header   []byte        // of the frame that is being received, as far as it came
	payload  int           // what is left of the frame before it
}

// drop drops from now on.
func (r *responses) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropping = true
}

// end says that nothing more will come.
func (r *responses) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tell()
}

func (r *responses) tell() {
	select {
	case <-r.answered:
	default:
		close(r.answered)
	}
}

// Write takes HTTP/2 frames: a length of three bytes, a type, flags, and the number of a
// stream of four. An answer ends with headers that end the stream.
func (r *responses) Write(b []byte) (int, error) {
	const headerBytes, headers, endStream = 9, 1, 1
	r.mu.Lock()
	defer r.mu.Unlock()
	for rest := b; len(rest) > 0; {
		if r.payload > 0 {
			n := min(r.payload, len(rest))
			r.payload, rest = r.payload-n, rest[n:]
			continue
		}
		n := min(headerBytes-len(r.header), len(rest))
		r.header, rest = append(r.header, rest[:n]...), rest[n:]
		if h := r.header; len(h) == headerBytes {
			r.payload = int(h[0])<<16 | int(h[1])<<8 | int(h[2])
			if r.dropping && h[3] == headers && h[4]&endStream != 0 {
				r.tell()
			}
			r.header = h[:0]
		}
	}
	if r.dropping {
		return len(b), nil
	}
	return r.client.Write(b)
}
