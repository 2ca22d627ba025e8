package cluster_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/pki"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/wanted"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// publishedCA is the certificate authority that clients of a cluster trust.
func publishedCA(t *testing.T, namespace string) ([]*x509.Certificate, error) {
	t.Helper()
	cm, err := acctest.Kube(t).CoreV1().ConfigMaps(namespace).Get(t.Context(), "consul-ca", metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return pki.ParseCertificates([]byte(cm.Data["ca.crt"]))
}

// seen holds the certificates that clients of a cluster have seen.
type seen struct {
	ca, server *x509.Certificate
	all        map[string]bool // every certificate that was ever seen, by its serial number
}

func (s *seen) add(c *x509.Certificate) (isNew bool) {
	if s.all == nil {
		s.all = map[string]bool{}
	}
	isNew = !s.all[c.SerialNumber.String()]
	s.all[c.SerialNumber.String()] = true
	return isNew
}

// dial opens a connection to a port of a server.
func dial(t *testing.T, namespace, pod string, port int) (net.Conn, error) {
	t.Helper()
	conn, err := acctest.Kube(t).PodDialer(namespace, pod).Dial(t.Context(), port)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

// speaksTLS checks that n servers answer HTTPS with one certificate that clients trust under every name of a server;
// that RPC is refused in plain text and with a stranger's certificate; and that the private keys are only in Secrets.
// news says which certificates are new: "ca", "server", or both.
func speaksTLS(t *testing.T, namespace string, n int, s *seen, news string, names ...string) resource.TestCheckFunc {
	t.Helper()
	return resource.ComposeTestCheckFunc(voters(t, namespace, n), func(state *terraform.State) error {
		trusted, err := publishedCA(t, namespace)
		if err != nil {
			return err
		}
		if len(trusted) != 1 {
			return fmt.Errorf("%d certificates are trusted", len(trusted))
		}
		serving := map[string]bool{}
		for i := range n {
			pod := server.PodName("consul", i)
			for _, name := range append(
				[]string{
					"server.dc1.consul", "localhost", "127.0.0.1", "consul", "consul." + namespace + ".svc",
					pod + ".consul-server." + namespace + ".svc.cluster.local",
				}, names...,
			) {
				leaf, err := get(t, namespace, pod, name, trusted)
				if err != nil {
					return fmt.Errorf("%s as %s: %w", pod, name, err)
				}
				s.server = leaf
				serving[leaf.SerialNumber.String()] = true
			}
			if _, err := get(t, namespace, pod, "consul.example.org", trusted); err == nil ||
				!strings.Contains(err.Error(), "not consul.example.org") {
				return fmt.Errorf("%s is trusted under any name: %w", pod, err)
			}
			if err := refusesStrangers(t, namespace, pod, trusted); err != nil {
				return fmt.Errorf("%s: %w", pod, err)
			}
		}
		s.ca = trusted[0]
		if len(serving) != 1 {
			return fmt.Errorf("servers have %d certificates", len(serving))
		}
		var is []string
		for what, c := range map[string]*x509.Certificate{"ca": s.ca, "server": s.server} {
			if s.add(c) {
				is = append(is, what)
			}
		}
		if slices.Sort(is); strings.Join(is, " ") != news {
			return fmt.Errorf("new are %q, want %q", is, news)
		}
		if a := state.RootModule().Resources[address].Primary.Attributes; a["ca_certificate"] != string(pki.EncodeCertificates(trusted)) ||
			a["certificate_expiry.server"] != s.server.NotAfter.UTC().Format(
				time.RFC3339,
			) || a["certificate_expiry.ca"] != s.ca.NotAfter.UTC().Format(time.RFC3339) {
			return fmt.Errorf("the state has %s, which ends %s", a["ca_certificate"], a["certificate_expiry.server"])
		}
		return privateKeysAreNowhere(t, namespace, fmt.Sprint(state))
	})
}

// get asks a server over HTTPS, and returns its certificate.
func get(t *testing.T, namespace, pod, name string, trusted []*x509.Certificate) (*x509.Certificate, error) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return dial(t, namespace, pod, server.DefaultTLS.HTTPSPort)
		},
		TLSClientConfig:   &tls.Config{RootCAs: pki.Pool(trusted), MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true,
	}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+name+"/v1/status/leader", nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	return resp.TLS.PeerCertificates[0], nil
}

// refusesStrangers checks that the RPC port of a server refuses plain text, and a client whose certificate has all
// the right names but comes from another authority.
func refusesStrangers(t *testing.T, namespace, pod string, trusted []*x509.Certificate) error {
	t.Helper()
	open, err := takesPlainRPC(t, namespace, pod)
	if err == nil && open {
		err = errors.New("it accepts RPC in plain text")
	}
	if err != nil {
		return err
	}
	stranger, err := pki.NewCA("ECDSA-P256", trusted[0].Subject.CommonName, time.Hour, time.Now())
	if err != nil {
		return err
	}
	return refusesClientsOf(t, namespace, pod, trusted, stranger)
}

// refusesClientsOf checks that the RPC port of a server refuses a client with a certificate of an authority.
func refusesClientsOf(t *testing.T, namespace, pod string, trusted []*x509.Certificate, stranger pki.Pair) error {
	t.Helper()
	client, err := pki.NewServer(stranger, "ECDSA-P256", "server", []string{"server.dc1.consul"}, nil, time.Hour, time.Now())
	if err != nil {
		return err
	}
	conn, err := dial(t, namespace, pod, server.PortServer)
	if err != nil {
		return err
	}
	if _, err := conn.Write([]byte{3}); err != nil { // RPCTLS
		return err
	}
	err = tls.Client(conn, &tls.Config{ //nolint:gosec // in TLS 1.2 the handshake ends after both have verified each other
		RootCAs: pki.Pool(trusted), ServerName: "server.dc1.consul", MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12,
		Certificates: []tls.Certificate{{Certificate: [][]byte{client.Certificate().Raw}, PrivateKey: client.Key}},
	}).HandshakeContext(t.Context())
	if err == nil || !strings.Contains(err.Error(), "remote error: tls: ") {
		return fmt.Errorf("a stranger's certificate is accepted: %w", err)
	}
	return nil
}

// takesPlainRPC reports whether a server accepts a connection that is not encrypted.
func takesPlainRPC(t *testing.T, namespace, pod string) (bool, error) {
	t.Helper()
	conn, err := dial(t, namespace, pod, server.PortServer)
	if err != nil {
		return false, err
	}
	if _, err := conn.Write([]byte{0}); err != nil { // RPCConsul
		return false, err
	}
	read := make(chan error, 1)
	go func() { // a port-forward has no deadlines
		_, err := conn.Read(make([]byte, 1))
		read <- err
	}()
	select {
	case err := <-read:
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		return false, err
	case <-time.After(5 * time.Second): // a port-forward reports the end of a connection late
		return true, nil
	}
}

// privateKeysAreNowhere searches for the private keys outside the Secrets, by their first lines.
func privateKeysAreNowhere(t *testing.T, namespace, state string) error {
	t.Helper()
	k := acctest.Kube(t)
	n := 0
	for _, name := range []string{"consul-tls", "consul-ca"} {
		s, err := k.CoreV1().Secrets(namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for key, value := range s.Data {
			if strings.HasSuffix(key, "tls.key") {
				n++
				if err := keyIsNowhere(t, namespace, strings.Split(string(value), "\n")[1], state); err != nil {
					return fmt.Errorf("%s of %s: %w", key, name, err)
				}
			}
		}
		cm, err := k.CoreV1().ConfigMaps(namespace).Get(t.Context(), "consul-ca", metav1.GetOptions{})
		if err != nil || strings.Contains(fmt.Sprint(cm.Data), "PRIVATE") {
			return fmt.Errorf("the ConfigMap has a private key: %w", err)
		}
	}
	if n == 0 {
		return errors.New("there is no private key")
	}
	return nil
}

// putCA writes a certificate authority into a Secret, as cert-manager does.
func putCA(t *testing.T, namespace, name string, ca pki.Pair, root *x509.Certificate) {
	t.Helper()
	chain, key, err := ca.PEM()
	if err != nil {
		t.Fatal(err)
	}
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{"tls.crt": chain, "tls.key": key},
	}
	if root != nil {
		s.Data["ca.crt"] = pki.EncodeCertificates([]*x509.Certificate{root})
	}
	secrets := acctest.Kube(t).CoreV1().Secrets(namespace)
	if _, err = secrets.Create(t.Context(), s, metav1.CreateOptions{}); apierrors.IsAlreadyExists(err) {
		_, err = secrets.Update(t.Context(), s, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func newTestCA(t *testing.T) pki.Pair {
	t.Helper()
	ca, err := pki.NewCA("RSA-2048", "ours, "+rand.String(5), 24*time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// forServersOnly is an authority whose certificates are not valid for clients. Servers are clients of each other.
func forServersOnly(t *testing.T) pki.Pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "for servers only, " + rand.String(5)},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(cryptorand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return pki.Pair{Chain: []*x509.Certificate{c}, Key: key}
}

// stopAtRefusedCA simulates a replacement of the authority that stopped because servers refuse the new certificates:
// all servers trust both authorities, the Secret has a certificate of the new one, and the first server has loaded
// it.
func stopAtRefusedCA(t *testing.T, namespace string, refused, former pki.Pair) {
	t.Helper()
	k := acctest.Kube(t)
	write := func(name string, annotations map[string]string, data map[string][]byte) {
		s, err := k.CoreV1().Secrets(namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s.Data = data
		for key, value := range annotations {
			metav1.SetMetaDataAnnotation(&s.ObjectMeta, key, value)
		}
		if _, err := k.CoreV1().Secrets(namespace).Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// loaded waits until the first servers have the file, and lets them read it.
	loaded := func(file string, want []byte, servers int) {
		for i := range servers {
			pod := server.PodName("consul", i)
			patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"test":%q}}}`, rand.String(5)) // makes the kubelet look at once
			if _, err := k.CoreV1().Pods(namespace).Patch(t.Context(), pod, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
			acctest.Wait(t, file+" in "+pod, func(ctx context.Context) (string, error) {
				out, err := k.Exec(ctx, namespace, pod, "consul", nil, "cat", "/consul/tls/"+file)
				if err != nil || strings.TrimSpace(out) != strings.TrimSpace(string(want)) {
					return fmt.Sprintf("it is another one (%v)", err), nil
				}
				_, err = k.Exec(ctx, namespace, pod, "consul", nil, "consul", "reload")
				return "", err
			})
		}
	}
	chain := pki.EncodeCertificates(refused.Chain)
	trusted := append(bytes.Clone(chain), pki.EncodeCertificates(former.Chain)...)
	old, err := k.CoreV1().Secrets(namespace).Get(t.Context(), "consul-tls", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	write("consul-tls", nil, map[string][]byte{"tls.crt": old.Data["tls.crt"], "tls.key": old.Data["tls.key"], "ca.crt": trusted})
	loaded("ca.crt", trusted, 3)
	p, err := pki.NewServer(
		refused,
		"ECDSA-P256",
		"server",
		[]string{"server.dc1.consul", "localhost"},
		[]string{"127.0.0.1"},
		time.Hour,
		time.Now(),
	)
	if err != nil {
		t.Fatal(err)
	}
	serverChain, serverKey, err := p.PEM()
	if err != nil {
		t.Fatal(err)
	}
	write(
		"consul-ca",
		map[string]string{server.ManagedBy + "/ca-brought": "true"},
		map[string][]byte{"tls.crt": chain, "ca.crt": chain, "former-ca.crt": pki.EncodeCertificates(former.Chain)},
	)
	write(
		"consul-tls",
		map[string]string{server.ManagedBy + "/unloaded": "true"},
		map[string][]byte{"tls.crt": serverChain, "tls.key": serverKey, "ca.crt": trusted},
	)
	loaded("tls.crt", serverChain, 1)
}

// plainGRPC is a setting that an adoption may need, with or without TLS.
const plainGRPC = "  extra_config = jsonencode({ ports = { grpc = 8502 } })\n"

// A cluster is created with TLS. Without a restart, its certificate is renewed, and its authority is replaced by a
// trigger, by one from the user, and after a Secret was lost.
func TestAccCluster_tlsIsServedAndItsCertificatesAreReplaced(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	k := acctest.Kube(t)
	var before map[string]types.UID
	var s seen
	config := func(replicas int, tls string, more ...string) string {
		return hclVersion(
			namespace,
			acctest.ConsulVersion,
			fmt.Sprintf(
				"  replicas = %d\n  gossip = { enabled = true }\n  tls = {\n    enabled = true\n    validity = \"2h\"\n%s  }\n%s",
				replicas,
				tls,
				strings.Join(more, ""),
			)+plainGRPC,
		)
	}
	const later, soon = "    renew_before = \"1h\"\n", "    renew_before = \"1h59m59s\"\n"
	ours := newTestCA(t)
	var former pki.Pair
	deleted := func(name string) func() {
		return func() {
			if err := k.CoreV1().Secrets(namespace).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	changes := func(changes ...string) resource.ConfigPlanChecks {
		var want []knownvalue.Check
		for _, c := range changes {
			want = append(want, knownvalue.StringExact(c))
		}
		return resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
			plancheck.ExpectKnownValue(address, tfjsonpath.New("rollout").AtMapKey("changes"), knownvalue.ListExact(want)),
			plancheck.ExpectKnownValue(address, tfjsonpath.New("rollout").AtMapKey("steps"), knownvalue.ListSizeExact(0)),
		}}
	}
	isOurs := func(*terraform.State) error {
		if !s.ca.Equal(ours.Certificate()) {
			return errors.New("the authority is not the one of ca_secret")
		}
		return nil
	}
	kept := notRestarted(t, namespace, &before)
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{Config: config(1, later), Check: speaksTLS(t, namespace, 1, &s, "ca server")},
			{Config: config(1, later), PlanOnly: true},
			{ResourceName: address, ImportState: true, ImportStateId: namespace + "/consul", ImportStateVerify: true},
			{
				Config: config(3, later+"    ca_trigger = \"1\"\n"),
				Check: resource.ComposeTestCheckFunc(speaksTLS(t, namespace, 3, &s, ""), func(*terraform.State) error {
					before = runs(t, namespace)
					return nil
				}),
			},
			{Config: config(3, later+"    ca_trigger = \"1\"\n"), PlanOnly: true},
			{ // due: the next refresh shows it
				Config: config(3, soon+"    ca_trigger = \"1\"\n"),
				Check:  resource.ComposeTestCheckFunc(speaksTLS(t, namespace, 3, &s, "server"), kept),
				// due again one second later
				ExpectNonEmptyPlan: true,
			},
			{
				Config: config(3, later+"    ca_trigger = \"2\"\n"),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectUnknownValue(address, tfjsonpath.New("ca_certificate")),
					plancheck.ExpectKnownValue(address, tfjsonpath.New("rollout").AtMapKey("steps"), knownvalue.ListSizeExact(0)),
				}},
				Check: resource.ComposeTestCheckFunc(speaksTLS(t, namespace, 3, &s, "ca server"), kept),
			},
			{
				Config: config(
					3,
					later+"    ca_trigger = \"2\"\n    dns_names = [\"consul.example.com\"]\n    ip_addresses = [\"192.0.2.1\"]\n",
				),
				ConfigPlanChecks: changes(
					`tls.dns_names: (none) -> ["consul.example.com"] (rotate)`,
					`tls.ip_addresses: (none) -> ["192.0.2.1"] (rotate)`,
				),
				Check: resource.ComposeTestCheckFunc(speaksTLS(t, namespace, 3, &s, "server", "consul.example.com", "192.0.2.1"), kept),
			},
			{
				PreConfig: deleted("consul-tls"), RefreshState: true, ExpectNonEmptyPlan: true,
				RefreshPlanChecks: resource.RefreshPlanChecks{
					PostRefresh: []plancheck.PlanCheck{plancheck.ExpectResourceAction(address, plancheck.ResourceActionUpdate)},
				},
			},
			{
				Config: config(3, later+"    ca_trigger = \"2\"\n"),
				Check:  resource.ComposeTestCheckFunc(speaksTLS(t, namespace, 3, &s, "server"), kept),
			},
			{
				PreConfig: deleted("consul-ca"),
				Config:    config(3, later+"    ca_trigger = \"2\"\n"),
				Check:     resource.ComposeTestCheckFunc(speaksTLS(t, namespace, 3, &s, "ca server"), kept),
			},
			{
				PreConfig: func() { deleted("consul-ca")(); deleted("consul-tls")() },
				Config: config(
					3,
					later+"    ca_trigger = \"2\"\n",
				), Check: resource.ComposeTestCheckFunc(speaksTLS(t, namespace, 3, &s, "ca server"), kept),
			},
			{Config: config(3, later, "  domain = \"example\"\n"), ExpectError: acctest.Says("The domain cannot change while TLS is on")},
			{
				Config:      config(3, later+"    ca_secret = \"ours\"\n"),
				ExpectError: acctest.Says("reading Secret " + namespace + "/ours (tls.ca_secret): the Secret does not exist"),
			},
			{
				PreConfig: func() { putCA(t, namespace, "ours", ours, newTestCA(t).Certificate()) },
				Config:    config(3, later+"    ca_secret = \"ours\"\n"), ExpectError: acctest.Says("does not chain to one in ca.crt"),
			},
			{
				PreConfig: func() { putCA(t, namespace, "ours", ours, ours.Certificate()) },
				Config:    config(3, later+"    ca_secret = \"ours\"\n"),
				Check:     resource.ComposeTestCheckFunc(speaksTLS(t, namespace, 3, &s, "ca server"), isOurs, kept),
			},
			{Config: config(3, later+"    ca_secret = \"ours\"\n"), PlanOnly: true},
			{ // another authority in the Secret, and servers refuse clients of the former one
				PreConfig: func() { former, ours = ours, newTestCA(t); putCA(t, namespace, "ours", ours, ours.Certificate()) },
				Config:    config(3, later+"    ca_secret = \"ours\"\n"),
				Check: resource.ComposeTestCheckFunc(speaksTLS(t, namespace, 3, &s, "ca server"), isOurs, kept, func(*terraform.State) error {
					return refusesClientsOf(t, namespace, "consul-server-1", ours.Chain, former)
				}),
			},
			{ // an authority with which servers would refuse each other
				PreConfig: func() { putCA(t, namespace, "ours", forServersOnly(t), nil) },
				Config:    config(3, later+"    ca_secret = \"ours\"\n"), ExpectError: acctest.Says("has no clientAuth"),
			},
			{ // the same, but a server has already got such a certificate: the former authority is restored
				PreConfig: func() {
					stopAtRefusedCA(t, namespace, forServersOnly(t), ours)
					putCA(t, namespace, "ours", ours, ours.Certificate())
				},
				Config: config(3, later+"    ca_secret = \"ours\"\n"),
				Check:  resource.ComposeTestCheckFunc(speaksTLS(t, namespace, 3, &s, "server"), isOurs, kept),
			},
			{Config: config(3, later+"    ca_secret = \"ours\"\n"), PlanOnly: true},
			{
				PreConfig: deleted("ours"),
				Config:    config(3, later),
				Check:     resource.ComposeTestCheckFunc(speaksTLS(t, namespace, 3, &s, "ca server"), kept),
			},
			{ // a server that restarts by itself
				PreConfig: func() { acctest.Crash(t, namespace, "consul-server-0"); whole(t, namespace) },
				Config:    config(3, later), PlanOnly: true,
			},
			{ // servers have to trust each other before the first of them restarts
				PreConfig: func() { deleted("consul-ca")(); deleted("consul-tls")() },
				Config:    config(3, later, "  pod_labels = { restarted = \"once\" }\n"),
				Check:     speaksTLS(t, namespace, 3, &s, "ca server"),
			},
		},
	})
	if len(s.all) < 14 || s.server.SerialNumber.Cmp(big.NewInt(0)) <= 0 {
		t.Errorf("only these were seen: %v", slices.Collect(maps.Keys(s.all)))
	}
}

// TLS is turned on and off on a running cluster, and no write fails. After a kill in the middle of the second roll,
// the next apply resumes it.
func TestAccLong_tlsOnAndOffRefusesNoWrite(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.NamespaceName(t)
	config := func(tls string) string {
		return required + hclVersion(namespace, acctest.ConsulVersion, "  create_namespace = true\n"+tls+plainGRPC)
	}
	on := "  tls = { enabled = true }\n"
	cli := acctest.NewCLI(t, map[string]string{"main.tf": config("")})
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	client := acctest.StartWriter(t, namespace, "no-token")
	client.More(5)
	watch := acctest.WatchRaft(t, namespace, "consul", "")
	if open, err := takesPlainRPC(t, namespace, "consul-server-0"); err != nil || !open {
		t.Fatalf("plain text is accepted: %v, %v", open, err)
	}

	cli.Write("main.tf", config(on))
	if out := cli.Must(t.Context(), "plan", "-no-color"); !strings.Contains(out, "3 servers restart, 2 times") ||
		strings.Count(out, "reload consul-server") < 3 {
		t.Errorf("the plan does not show two rolls and a reload between them:\n%s", out)
	}
	var first map[string]types.UID
	killed, out := cli.RunAndKill(t.Context(), "apply", func(ctx context.Context) bool {
		if first == nil && stages(ctx, t, namespace).TLS.Stage == server.StageEncrypted { // the first roll is complete
			first = runs(t, namespace)
		}
		return first != nil && len(restarted(first, runs(t, namespace))) > 0
	})
	if !killed {
		t.Fatalf("the apply ended before it could be killed:\n%s", out)
	}
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	trusted, err := publishedCA(t, namespace)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		pod := server.PodName("consul", i)
		if _, err := get(t, namespace, pod, "consul."+namespace+".svc", trusted); err != nil {
			t.Error(err)
		}
		if err := refusesStrangers(t, namespace, pod, trusted); err != nil {
			t.Errorf("%s: %v", pod, err)
		}
	}
	if err := privateKeysAreNowhere(t, namespace, cli.State()); err != nil {
		t.Error(err)
	}
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")

	cli.Write("main.tf", config(""))
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	if open, err := takesPlainRPC(t, namespace, "consul-server-0"); err != nil || !open {
		t.Errorf("plain text is accepted afterwards: %v, %v", open, err)
	}
	for _, name := range []string{"consul-tls", "consul-ca"} {
		if _, err := acctest.Kube(t).CoreV1().Secrets(namespace).Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("the Secret %s: %v", name, err)
		}
	}
	cli.Must(t.Context(), "plan", "-no-color", "-detailed-exitcode")
	if raft := watch.Stop(); raft.FewestVoters < 2 {
		t.Errorf("there were only %d voters", raft.FewestVoters)
	}
	client.More(5)
	if err := client.Verify(""); err != nil {
		t.Error(err)
	}
	client.Stop()
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	namespaceGone(t, namespace)
}

// The snapshot before an upgrade is taken over HTTPS (testdata/snapshot.yaml of package server), because its request
// has the management token.
func TestAccCluster_tlsProtectsTheSnapshotOfAnUpgrade(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	config := func(version string) string {
		return hclVersion(namespace, version, "  replicas = 1\n  tls = { enabled = true }\n")
	}
	var s seen
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{Config: config(acctest.OlderVersion), Check: speaksTLS(t, namespace, 1, &s, "ca server")},
			{
				Config: config(acctest.ConsulVersion),
				Check: resource.ComposeTestCheckFunc(
					speaksTLS(t, namespace, 1, &s, ""),
					resource.TestCheckResourceAttrSet(address, "upgrade_snapshot.file"),
				),
			},
		},
	})
}

// answers checks whether servers answer at their addresses, over HTTP and over HTTPS.
func answers(t *testing.T, namespace string, n int, overHTTP bool) resource.TestCheckFunc {
	t.Helper()
	return resource.ComposeTestCheckFunc(voters(t, namespace, n), func(state *terraform.State) error {
		for i := range n {
			for url, want := range map[string]bool{"http://$POD_IP:8500": overHTTP, "https://$POD_IP:8501": true, "http://127.0.0.1:8500": true} {
				_, err := acctest.Kube(t).Exec(t.Context(), namespace, server.PodName("consul", i), server.ContainerName, nil,
					"/bin/sh", "-c", "curl -ksf -m 5 "+url+"/v1/status/leader")
				if (err == nil) != want {
					return fmt.Errorf("server %d answers at %s: %w, want %v", i, url, err, want)
				}
			}
		}
		service, err := acctest.Kube(t).CoreV1().Services(namespace).Get(t.Context(), "consul", metav1.GetOptions{})
		if err != nil {
			return err
		}
		for name, want := range map[string]bool{"http": overHTTP, "https": true} {
			if got := slices.ContainsFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == name }); got != want {
				return fmt.Errorf("the Service has the port %s: %v, want %v", name, got, want)
			}
		}
		if a := state.RootModule().Resources[address].Primary.Attributes; (a["http_address"] != "") != overHTTP || a["https_address"] == "" {
			return fmt.Errorf("the addresses are %q and %q", a["http_address"], a["https_address"])
		}
		return nil
	})
}

// If HTTP is closed, a server without data finds the others, and a snapshot is taken, over HTTPS.
func TestAccLong_httpsOnly(t *testing.T) {
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	config := func(version string, replicas int, httpsOnly bool) string {
		return hclVersion(
			namespace,
			version,
			fmt.Sprintf("  replicas = %d\n  tls = {\n    enabled = true\n    https_only = %v\n  }\n", replicas, httpsOnly),
		)
	}
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{Config: config(acctest.OlderVersion, 1, true), Check: answers(t, namespace, 1, false)},
			{ResourceName: address, ImportState: true, ImportStateId: namespace + "/consul", ImportStateVerify: true},
			{Config: config(acctest.OlderVersion, 3, true), Check: answers(t, namespace, 3, false)},
			{
				Config: config(acctest.ConsulVersion, 3, true),
				Check: resource.ComposeTestCheckFunc(
					answers(t, namespace, 3, false),
					resource.TestCheckResourceAttrSet(address, "upgrade_snapshot.file"),
				),
			},
			{Config: config(acctest.ConsulVersion, 3, false), Check: answers(t, namespace, 3, true)},
			{Config: config(acctest.ConsulVersion, 3, false), PlanOnly: true},
		},
	})
}

// putCertificate writes a certificate of the servers into a Secret, as cert-manager does.
func putCertificate(t *testing.T, namespace, name string, ca pki.Pair, dns ...string) (client tls.Certificate) {
	t.Helper()
	p, err := pki.NewServer(ca, "ECDSA-P256", "issued elsewhere", dns, nil, 12*time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	putCA(t, namespace, name, p, ca.Certificate())
	return tls.Certificate{Certificate: [][]byte{p.Certificate().Raw}, PrivateKey: p.Key}
}

// A certificate that is issued elsewhere is used and replaced without a restart. HTTPS refuses clients without a
// certificate, and clients with an old version of TLS.
func TestAccCluster_tlsCertificateIsIssuedElsewhere(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	config := func(version, tls string) string {
		return hclVersion(namespace, version, "  replicas = 1\n  tls = {\n    enabled = true\n"+tls+"  }\n")
	}
	const issued = "    certificate_secret = \"issued\"\n"
	const strict = issued + "    min_version = \"TLSv1_3\"\n    verify_clients = true\n    https_port = 9501\n"
	names := []string{"server.dc1.consul", "consul." + namespace + ".svc"}
	ca := newTestCA(t)
	client := putCertificate(t, namespace, "issued", ca, names...)
	var before map[string]types.UID
	kept := notRestarted(t, namespace, &before)
	// served checks that the server has the certificate in the Secret, and accepts only its clients.
	served := func(state *terraform.State) error {
		if a := state.RootModule().Resources[address].Primary.Attributes["https_address"]; a != "consul."+namespace+".svc:9501" {
			return errors.New("https_address is " + a)
		}
		for name, tt := range map[string]struct {
			certificates []tls.Certificate
			maxVersion   uint16
			want         string
		}{
			"a client":       {[]tls.Certificate{client}, tls.VersionTLS13, ""},
			"an old client":  {[]tls.Certificate{client}, tls.VersionTLS12, "protocol version"},
			"no certificate": {nil, tls.VersionTLS13, "certificate required"},
		} {
			conn, err := dial(t, namespace, "consul-server-0", 9501)
			if err != nil {
				return err
			}
			secure := tls.Client(conn, &tls.Config{
				RootCAs:    pki.Pool(ca.Chain),
				ServerName: names[1], Certificates: tt.certificates, MinVersion: tls.VersionTLS12, MaxVersion: tt.maxVersion,
			})
			if err = secure.HandshakeContext(t.Context()); err == nil {
				if _, err = secure.Write([]byte("GET /v1/status/leader HTTP/1.0\r\n\r\n")); err == nil {
					_, err = secure.Read(make([]byte, 1))
				}
			}
			if !wanted.Error(err, tt.want) {
				return fmt.Errorf("%s: %w, want %q", name, err, tt.want)
			}
			if got := secure.ConnectionState().PeerCertificates; err == nil && !slices.Equal(got[0].Raw, client.Certificate[0]) {
				return fmt.Errorf("the server has the certificate of %s", got[0].Subject.CommonName)
			}
		}
		return nil
	}
	var s seen
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{Config: config(acctest.OlderVersion, strict), Check: served},
			{Config: config(acctest.OlderVersion, strict), PlanOnly: true},
			{ResourceName: address, ImportState: true, ImportStateId: namespace + "/consul", ImportStateVerify: true},
			{ // the snapshot is taken over HTTPS, with a client certificate
				Config: config(acctest.ConsulVersion, strict),
				Check: resource.ComposeTestCheckFunc(
					served,
					resource.TestCheckResourceAttrSet(address, "upgrade_snapshot.file"),
					func(*terraform.State) error {
						before = runs(t, namespace)
						return nil
					},
				),
			},
			{
				PreConfig:    func() { client = putCertificate(t, namespace, "issued", ca, names...) },
				RefreshState: true, ExpectNonEmptyPlan: true,
			},
			{Config: config(acctest.ConsulVersion, strict), Check: resource.ComposeTestCheckFunc(served, kept)},
			{
				PreConfig: func() { ca = newTestCA(t); client = putCertificate(t, namespace, "issued", ca, names...) },
				Config:    config(acctest.ConsulVersion, strict), Check: resource.ComposeTestCheckFunc(served, kept),
			},
			{Config: config(acctest.ConsulVersion, strict), PlanOnly: true},
			{
				PreConfig: func() { putCertificate(t, namespace, "other", ca, names[0]) },
				Config: config(
					acctest.ConsulVersion,
					strings.ReplaceAll(strict, `"issued"`, `"other"`),
				), ExpectError: acctest.Says("the certificate is not valid for " + names[1]),
			},
			{
				PreConfig: func() {
					for _, name := range []string{"issued", "other"} {
						if err := acctest.Kube(t).CoreV1().Secrets(namespace).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
							t.Fatal(err)
						}
					}
				},
				Config: config(acctest.ConsulVersion, ""), Check: speaksTLS(t, namespace, 1, &s, "ca server"),
			},
			{Config: config(acctest.ConsulVersion, ""), PlanOnly: true},
		},
	})
}

// Without a token, the servers cannot be told to reload between the two rolls, so neither roll starts.
func TestAccCluster_tlsIsNotTurnedOnWithoutTheToken(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	config := func(more string) string { return hclVersion(namespace, acctest.ConsulVersion, "  replicas = 1\n"+more) }
	const acls, on = "  acl = { enabled = true, default_policy = \"allow\" }\n", "  tls = { enabled = true }\n"
	var before map[string]types.UID
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{Config: config(""), Check: voters(t, namespace, 1)},
			{Config: config(acls + on), ExpectError: acctest.Says("ACLs and TLS cannot be turned on together")},
			{Config: config(acls), Check: func(*terraform.State) error {
				before = runs(t, namespace)
				return nil
			}},
			{Config: config(acls + on), ExpectError: acctest.Says("requires a valid management token, and nothing was changed")},
			{Config: config(acls), Check: notRestarted(t, namespace, &before)},
		},
	})
}
