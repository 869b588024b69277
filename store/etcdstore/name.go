package etcdstore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
)

// ParseName takes a name of a store apart that a person typed:
// HOST:PORT,HOST:PORT/PREFIX, the members of the cluster and the store's prefix there,
// which [Open] takes. A member may have https:// or http:// before it. The error says
// what is wrong with it.
func ParseName(name string) (endpoints []string, prefix string, err error) {
	rest := strings.TrimPrefix(name, "//") // as in etcd://HOST:PORT/PREFIX
	for more := true; more; {
		scheme := ""
		for _, s := range []string{"https://", "http://"} {
			if strings.HasPrefix(rest, s) {
				scheme, rest = s, rest[len(s):]
			}
		}
		end := strings.IndexAny(rest, ",/")
		if end < 0 {
			return nil, "", errors.New("the name of an etcd store is HOST:PORT,HOST:PORT/PREFIX: the prefix is missing")
		}
		address := rest[:end]
		if strings.Contains(address, "@") { // what is before it may be secret
			return nil, "", errors.New("a user does not belong in the name of an etcd store: set ETCDCTL_USER and ETCDCTL_PASSWORD")
		}
		_, port, err := net.SplitHostPort(address)
		if err == nil && port != "" {
			_, err = net.LookupPort("tcp", port)
		}
		if err != nil || port == "" {
			return nil, "", fmt.Errorf("the name of an etcd store is HOST:PORT,HOST:PORT/PREFIX: %q is no HOST:PORT", address)
		}
		endpoints = append(endpoints, scheme+address)
		more, rest = rest[end] == ',', rest[end+1:]
	}
	if prefix = strings.TrimSuffix(rest, "/"); prefix == "" {
		return nil, "", errors.New("the name of an etcd store is HOST:PORT,HOST:PORT/PREFIX: the prefix is missing")
	}
	return endpoints, prefix, nil
}

// EnvOptions returns the options that the environment says, by the variables of
// etcdctl: ETCDCTL_CACERT, ETCDCTL_CERT and ETCDCTL_KEY are files in PEM, and
// ETCDCTL_USER is a user, or USER:PASSWORD; ETCDCTL_PASSWORD is the password. A command
// line, which others can read, is no place for them.
func EnvOptions() (o Options, err error) {
	ca, cert, key := os.Getenv("ETCDCTL_CACERT"), os.Getenv("ETCDCTL_CERT"), os.Getenv("ETCDCTL_KEY")
	if ca != "" || cert != "" || key != "" {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return o, fmt.Errorf("ETCDCTL_CACERT: %w", err)
		}
		o.TLS.RootCAs = x509.NewCertPool()
		if !o.TLS.RootCAs.AppendCertsFromPEM(text) {
			return o, fmt.Errorf("ETCDCTL_CACERT: %s has no certificate in PEM", ca)
		}
	}
	if cert != "" || key != "" {
		if cert == "" || key == "" {
			return o, errors.New("ETCDCTL_CERT and ETCDCTL_KEY belong together, and one is not set")
		}
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return o, fmt.Errorf("ETCDCTL_CERT and ETCDCTL_KEY: %w", err)
		}
		o.TLS.Certificates = []tls.Certificate{pair}
	}
	o.Username, o.Password, _ = strings.Cut(os.Getenv("ETCDCTL_USER"), ":")
	if password := os.Getenv("ETCDCTL_PASSWORD"); password != "" {
		o.Password = password
	}
	if o.Username != "" && o.Password == "" {
		return o, errors.New("ETCDCTL_USER has no password: set ETCDCTL_PASSWORD")
	}
	return o, nil
}
