package etcdstore_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvmigrate/kvmigrate/store/etcdstore"
)

func TestParseName(t *testing.T) {
	for _, test := range []struct {
		name, prefix string
		endpoints    []string
		err          string
	}{
		{"127.0.0.1:2379/app", "app", []string{"127.0.0.1:2379"}, ""},
		{"a:1,b:2,c:3/app/production", "app/production", []string{"a:1", "b:2", "c:3"}, ""},
		{"//a:1/app/", "app", []string{"a:1"}, ""},
		{"https://a:1,https://b:2/app", "app", []string{"https://a:1", "https://b:2"}, ""},
		{"[::1]:2379/app", "app", []string{"[::1]:2379"}, ""},
		{"", "", nil, "the prefix is missing"},
		{"a:1", "", nil, "the prefix is missing"},
		{"a:1/", "", nil, "the prefix is missing"},
		{"a:1,b:2/", "", nil, "the prefix is missing"},
		{"a/app", "", nil, `"a" is no HOST:PORT`},
		{"a:/app", "", nil, `"a:" is no HOST:PORT`},
		{"a:99999/app", "", nil, `"a:99999" is no HOST:PORT`},
		{"a:1,b:no-such-port/app", "", nil, `"b:no-such-port" is no HOST:PORT`},
		{"a:1,/app", "", nil, `"" is no HOST:PORT`},
		{"/app", "", nil, `"" is no HOST:PORT`},
		{"root:word@a:1/app", "", nil, "ETCDCTL_USER"},
		{"a:1,https://root@a:1/app", "", nil, "ETCDCTL_USER"},
		{"a:1/team@home", "team@home", []string{"a:1"}, ""},
	} {
		endpoints, prefix, err := etcdstore.ParseName(test.name)
		if err != nil && strings.Contains(err.Error(), ":word") {
			t.Errorf("ParseName(%q) tells a secret: %v", test.name, err)
		}
		if prefix != test.prefix || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("ParseName(%q) = prefix %q, %v; want %q, %s", test.name, prefix, err, test.prefix, test.err)
		}
		if diff := cmp.Diff(test.endpoints, endpoints); diff != "" {
			t.Errorf("ParseName(%q): endpoints (-want +got):\n%s", test.name, diff)
		}
	}
}

// TestEnvOptions: what is wrong with the environment is said with the variable.
func TestEnvOptions(t *testing.T) {
	noPEM := filepath.Join(t.TempDir(), "none.pem")
	if err := os.WriteFile(noPEM, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		env        map[string]string
		user, word string
		err        string
	}{
		{nil, "", "", ""},
		{map[string]string{"ETCDCTL_USER": "app:word"}, "app", "word", ""},
		{map[string]string{"ETCDCTL_USER": "app", "ETCDCTL_PASSWORD": "wo:rd"}, "app", "wo:rd", ""},
		{map[string]string{"ETCDCTL_USER": "app"}, "", "", "ETCDCTL_USER has no password"},
		{map[string]string{"ETCDCTL_CACERT": noPEM}, "", "", "has no certificate in PEM"},
		{map[string]string{"ETCDCTL_CACERT": "nowhere"}, "", "", "ETCDCTL_CACERT: open nowhere"},
		{map[string]string{"ETCDCTL_CERT": noPEM}, "", "", "belong together"},
		{map[string]string{"ETCDCTL_CERT": noPEM, "ETCDCTL_KEY": noPEM}, "", "", "ETCDCTL_CERT and ETCDCTL_KEY: "},
	} {
		for _, name := range []string{"ETCDCTL_USER", "ETCDCTL_PASSWORD", "ETCDCTL_CACERT", "ETCDCTL_CERT", "ETCDCTL_KEY"} {
			t.Setenv(name, test.env[name])
		}
		o, err := etcdstore.EnvOptions()
		switch {
		case (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err):
			t.Errorf("%v: error = %v, want %q", test.env, err, test.err)
		case err == nil && (o.Username != test.user || o.Password != test.word || o.TLS != nil):
			t.Errorf("%v: options = %+v", test.env, o)
		}
	}
}
