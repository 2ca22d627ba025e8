package localcluster

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

func TestPKI_identitiesAreValid(t *testing.T) {
	t.Setenv(dirVariable, t.TempDir())
	c, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.writePKI(); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	data, err := os.ReadFile(c.path("pki", "ca.crt"))
	if err != nil || !pool.AppendCertsFromPEM(data) {
		t.Fatalf("reading the authority: %v", err)
	}
	for _, test := range []struct {
		file, user, group string
		address           string
	}{
		{file: "pki/apiserver", user: "kube-apiserver", address: "127.0.0.1"},
		{file: "pki/apiserver", user: "kube-apiserver", address: bridgeAddress},
		{file: "pki/apiserver", user: "kube-apiserver", address: apiServiceAddress},
		{file: "admin", user: "admin", group: "system:masters"},
		{file: "node-3/kubelet", user: "system:node:node-3", group: "system:nodes", address: "10.89.0.13"},
	} {
		pair, err := tls.LoadX509KeyPair(c.path(test.file+".crt"), c.path(test.file+".key"))
		if err != nil {
			t.Errorf("%s: %v", test.file, err)
			continue
		}
		leaf := pair.Leaf
		if _, err := leaf.Verify(
			x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}},
		); err != nil {
			t.Errorf("%s: %v", test.file, err)
		}
		if leaf.Subject.CommonName != test.user ||
			test.group != "" && (len(leaf.Subject.Organization) != 1 || leaf.Subject.Organization[0] != test.group) {
			t.Errorf("%s is for %s", test.file, leaf.Subject)
		}
		if test.address != "" {
			if err := leaf.VerifyHostname(net.ParseIP(test.address).String()); err != nil {
				t.Errorf("%s: %v", test.file, err)
			}
		}
	}
	config, err := clientcmd.LoadFromFile(c.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range config.AuthInfos {
		if len(user.ClientCertificateData) == 0 || len(user.ClientKeyData) == 0 {
			t.Error("the kubeconfig does not stand by itself")
		}
	}
	if info, err := os.Stat(c.Kubeconfig()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others can read the kubeconfig: %v, %v", info.Mode(), err)
	}
}
