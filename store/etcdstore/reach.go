package etcdstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-multierror"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// errUnreachable: no member of the cluster answers.
var errUnreachable = errors.New("no member can be reached")

// reach returns nil once one of the endpoints answers, whatever it says, and otherwise
// why each of them does not. etcd's client tries for as long as it is let, and does not
// say which of them failed.
func reach(ctx context.Context, endpoints []string, config *tls.Config, timeout time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(endpoints))
	type answer struct {
		endpoint int
		err      error
	}
	answers := make(chan answer, len(endpoints))
	for i, endpoint := range endpoints {
		go func() { answers <- answer{i, ask(ctx, endpoint, config, timeout)} }()
	}
	for range endpoints {
		a := <-answers
		if a.err == nil {
			return nil
		}
		errs[a.endpoint] = fmt.Errorf("%s: %w", endpoints[a.endpoint], a.err)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(errs) == 1 {
		return fmt.Errorf("%w: %w", errUnreachable, errs[0])
	}
	return fmt.Errorf("%w: %w", errUnreachable, multierror.Append(nil, errs...))
}

// ask sends one request to a member, and returns nil if it answers.
func ask(ctx context.Context, endpoint string, config *tls.Config, timeout time.Duration) error {
	scheme, address, ok := strings.Cut(endpoint, "://")
	if !ok {
		scheme, address = "", endpoint
	}
	if scheme != "" && scheme != "http" && scheme != "https" {
		return nil // a socket is not looked for by name
	}
	creds, encrypted := insecure.NewCredentials(), scheme == "https" || scheme == "" && config != nil
	if encrypted {
		creds = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it has served its purpose
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err = health.NewHealthClient(conn).Check(ctx, &health.HealthCheckRequest{})
	switch s := status.Convert(err); s.Code() {
	case codes.Unavailable:
		return errors.New(hinted(plain(s.Message()), encrypted, config))
	case codes.DeadlineExceeded, codes.Canceled:
		return fmt.Errorf("it did not answer within %v", timeout)
	}
	return nil
}

// plain leaves out of the text of an error what gRPC puts around it.
func plain(text string) string {
	if _, desc, ok := strings.Cut(text, "connection error: desc = "); ok {
		if unquoted, err := strconv.Unquote(desc); err == nil {
			text = unquoted
		}
	}
	return strings.TrimPrefix(strings.TrimPrefix(text, "transport: "), "Error while dialing: ")
}

// hinted adds to the text of an error what is often behind it: a server ends connections
// that are not as it wants them without a word.
func hinted(text string, encrypted bool, config *tls.Config) string {
	ended := slices.ContainsFunc([]string{"server preface", "EOF", "broken pipe", "reset by peer", "certificate required"}, func(end string) bool {
		return strings.Contains(text, end)
	})
	switch {
	case ended && !encrypted:
		text += "; it may want TLS"
	case ended && strings.HasPrefix(text, "authentication handshake failed") && !strings.Contains(text, "tls:"):
		text += "; it may not speak TLS"
	case ended && (config == nil || len(config.Certificates) == 0):
		text += "; it may want a client certificate"
	}
	return text
}
