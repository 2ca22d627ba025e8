package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/wanted"
)

var (
	now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	dns = []string{"server.dc1.consul", "*.consul-server"}
	ips = []string{"127.0.0.1", "::1"}
)

func newCA(t *testing.T, algorithm string) Pair {
	t.Helper()
	ca, err := NewCA(algorithm, "Consul CA", 48*time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// intermediate is an authority that another one has signed.
func intermediate(t *testing.T, root Pair) Pair {
	t.Helper()
	p, err := sign("ECDSA-P256", &x509.Certificate{
		Subject: pkix.Name{CommonName: "Consul intermediate"}, NotBefore: now, NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, &root)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func rootOfOthers(t *testing.T) Pair {
	t.Helper()
	p, err := sign("RSA-2048", &x509.Certificate{
		Subject: pkix.Name{CommonName: "Root"}, NotBefore: now, NotAfter: now.Add(100 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The certificate of a server is trusted by everything that trusts its authority, as server and client, under its
// names and no others, until it or the authority expires.
func TestNewServer(t *testing.T) {
	root := rootOfOthers(t)
	for name, tt := range map[string]struct {
		ca    Pair
		roots []*x509.Certificate
	}{
		"ECDSA-P256":   {ca: newCA(t, "ECDSA-P256")},
		"ECDSA-P384":   {ca: newCA(t, "ECDSA-P384")},
		"RSA-2048":     {ca: newCA(t, "RSA-2048")},
		"intermediate": {ca: intermediate(t, root), roots: root.Chain},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.roots == nil {
				tt.roots = tt.ca.Chain
			}
			if err := CheckCA(tt.ca, tt.roots, dns, ips, now); err != nil {
				t.Error(err)
			}
			s, err := NewServer(tt.ca, "ECDSA-P256", "server", dns, ips, 2*time.Hour, now)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckServer(s, tt.ca, dns, ips); err != nil {
				t.Error(err)
			}
			chain, key, err := s.PEM()
			if err != nil {
				t.Fatal(err)
			}
			if s, err = ParsePair(chain, key); err != nil {
				t.Fatal(err)
			}
			verify := func(host string, at time.Time, usage x509.ExtKeyUsage) error {
				_, err := s.Certificate().Verify(x509.VerifyOptions{
					DNSName: host, CurrentTime: at, Roots: Pool(tt.roots), Intermediates: Pool(s.Chain[1:]), KeyUsages: []x509.ExtKeyUsage{usage},
				})
				return err
			}
			for _, host := range []string{"server.dc1.consul", "consul-server-0.consul-server", "127.0.0.1", "::1"} {
				if err := verify(host, now, x509.ExtKeyUsageServerAuth); err != nil {
					t.Error(err)
				}
			}
			if err := verify("", now, x509.ExtKeyUsageClientAuth); err != nil {
				t.Error(err)
			}
			if verify("server.dc2.consul", now, x509.ExtKeyUsageServerAuth) == nil ||
				verify("", now.Add(3*time.Hour), x509.ExtKeyUsageServerAuth) == nil {
				t.Error("another name, or another time, is valid too")
			}
		})
	}
	if _, err := NewServer(root, "ECDSA-P256", "server", nil, []string{"x"}, time.Hour, now); err == nil {
		t.Error("x counts as an IP address")
	}
	if _, err := NewCA("DSA", "x", time.Hour, now); err == nil {
		t.Error("DSA is made")
	}
	s, err := NewServer(newCA(t, "ECDSA-P256"), "ECDSA-P256", "server", dns, ips, 100*time.Hour, now)
	if err != nil || !s.Certificate().NotAfter.Equal(now.Add(48*time.Hour)) {
		t.Errorf("it ends at %s, after its authority: %v", s.Certificate().NotAfter, err)
	}
}

// A certificate expires with the first of the authorities between it and a trusted one.
func TestPair_Ends(t *testing.T) {
	root := rootOfOthers(t)
	ca := intermediate(t, root)
	below, err := sign("ECDSA-P256", &x509.Certificate{
		Subject:   pkix.Name{CommonName: "below"},
		NotBefore: now, NotAfter: now.Add(50 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, &ca)
	if err != nil {
		t.Fatal(err)
	}
	below.Chain = append(below.Chain, ca.Chain...)
	s, err := NewServer(below, "ECDSA-P256", "server", dns, ips, 100*time.Hour, now)
	if err != nil || !s.Certificate().NotAfter.Equal(now.Add(24*time.Hour)) {
		t.Errorf("it ends at %s, after an authority of its chain: %v", s.Certificate().NotAfter, err)
	}
}

func TestCheckCA(t *testing.T) {
	ca, root := newCA(t, "ECDSA-P256"), rootOfOthers(t)
	s, err := NewServer(ca, "ECDSA-P256", "server", dns, ips, time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		ca    Pair
		roots []*x509.Certificate
		at    time.Time
		want  string
	}{
		"good":            {ca, ca.Chain, now, ""},
		"no authority":    {s, ca.Chain, now, "does not belong to a certificate authority"},
		"expired":         {ca, ca.Chain, now.Add(49 * time.Hour), "expired on 2026-01-04T03:04:05Z"},
		"not yet":         {ca, ca.Chain, now.Add(-time.Hour), "is not valid before"},
		"another root":    {ca, root.Chain, now, "does not chain to one in ca.crt"},
		"an intermediate": {intermediate(t, root), root.Chain, now, ""},
	} {
		err := CheckCA(tt.ca, tt.roots, dns, ips, tt.at)
		if !wanted.Error(err, tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// An authority is refused, with the reason, if servers with its certificates would refuse each other.
func TestCheckCA_tries(t *testing.T) {
	authority := func(change func(*x509.Certificate), by *Pair) Pair {
		t.Helper()
		template := &x509.Certificate{
			Subject: pkix.Name{CommonName: "ours"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
		if change != nil {
			change(template)
		}
		p, err := sign("ECDSA-P256", template, by)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	only := func(usages ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = usages }
	}
	_, loopback, err := net.ParseCIDR("127.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	serverOnly := authority(func(c *x509.Certificate) { only(x509.ExtKeyUsageServerAuth)(c); c.Subject.CommonName = "root" }, nil)
	short := authority(func(c *x509.Certificate) { c.MaxPathLenZero, c.Subject.CommonName = true, "root" }, nil)
	plain := authority(func(c *x509.Certificate) { c.Subject.CommonName = "root" }, nil)
	for name, tt := range map[string]struct {
		ca, root Pair
		want     string
	}{
		"no restriction": {authority(nil, nil), Pair{}, ""},
		"both usages":    {authority(only(x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth), nil), Pair{}, ""},
		"any usage":      {authority(only(x509.ExtKeyUsageAny), nil), Pair{}, ""},
		"servers only": {authority(only(x509.ExtKeyUsageServerAuth), nil),
			Pair{}, `the extended key usage of "CN=ours" has no clientAuth`},
		"clients only": {authority(only(x509.ExtKeyUsageClientAuth), nil),
			Pair{}, `the extended key usage of "CN=ours" has no serverAuth`},
		"its root servers only":   {authority(nil, &serverOnly), serverOnly, `the extended key usage of "CN=root" has no clientAuth`},
		"an intermediate":         {authority(nil, &plain), plain, ""},
		"a path that is too long": {authority(nil, &short), short, "too many intermediates for path length constraint"},
		"names that lack servers'": {authority(func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.com"} }, nil),
			Pair{}, `DNS name "server.dc1.consul" is not permitted`},
		"names without domains": {authority(func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"consul"} }, nil),
			Pair{}, `DNS name "server.dc1.consul" is excluded`},
		"addresses": {authority(func(c *x509.Certificate) { c.ExcludedIPRanges = []*net.IPNet{loopback} }, nil),
			Pair{}, `127.0.0.1`},
	} {
		roots := tt.ca.Chain
		if tt.root.Key != nil {
			roots = tt.root.Chain
		}
		err := CheckCA(tt.ca, roots, dns, ips, now)
		if !wanted.Error(err, tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// A certificate is tested in a handshake: one that verifies may still be refused.
func TestCheckPeers(t *testing.T) {
	ca := newCA(t, "ECDSA-P256")
	good, err := NewServer(ca, "RSA-2048", "server", dns, ips, time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := *good.Certificate()
	der, err := x509.CreateCertificate(rand.Reader, &template, ca.Certificate(), weak.Public(), ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	refused := Pair{Chain: []*x509.Certificate{c}, Key: weak}
	if err := CheckChain(refused, ca.Chain, now); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		p    Pair
		host string
		want string
	}{
		"good":                 {good, dns[0], ""},
		"another name":         {good, "server.dc2.consul", "not server.dc2.consul"},
		"an unsupported curve": {refused, dns[0], "tls: "},
		"of no authority":      {newCA(t, "RSA-2048"), dns[0], "certificate signed by unknown authority"},
	} {
		err := CheckPeers(tt.p, ca.Chain, tt.host, now)
		if !wanted.Error(err, tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestCheckServer(t *testing.T) {
	ca := newCA(t, "ECDSA-P256")
	s, err := NewServer(ca, "ECDSA-P256", "server", dns, ips, time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		ca       Pair
		dns, ips []string
		want     string
	}{
		"good":            {ca, dns, ips, ""},
		"in any order":    {ca, []string{dns[1], dns[0]}, []string{"::1", "127.0.0.1"}, ""},
		"in other words":  {ca, dns, []string{"127.0.0.1", "0:0::1"}, ""},
		"another name":    {ca, append([]string{"a"}, dns...), ips, "other names"},
		"one name less":   {ca, dns[1:], ips, "other names"},
		"another address": {ca, dns, []string{"127.0.0.1"}, "other names"},
		"another CA":      {newCA(t, "ECDSA-P256"), dns, ips, "another certificate authority"},
	} {
		err := CheckServer(s, tt.ca, tt.dns, tt.ips)
		if !wanted.Error(err, tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// Keys have several encodings, and errors do not quote them.
func TestParsePair(t *testing.T) {
	ca := newCA(t, "RSA-2048")
	chain, key, err := ca.PEM()
	if err != nil {
		t.Fatal(err)
	}
	ec := newCA(t, "ECDSA-P256")
	ecChain, ecKey, err := ec.PEM()
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec.Key.(*ecdsa.PrivateKey)) //nolint:forcetypeassert // as made
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PrivateKey(ca.Key.(*rsa.PrivateKey)) //nolint:forcetypeassert // as made
	encode := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for name, tt := range map[string]struct {
		chain, key []byte
		want       string
	}{
		"PKCS #8":       {chain, key, ""},
		"PKCS #1":       {chain, encode("RSA PRIVATE KEY", pkcs1), ""},
		"SEC 1":         {ecChain, encode("EC PRIVATE KEY", sec1), ""},
		"of openssl":    {ecChain, append(encode("EC PARAMETERS", []byte{6}), encode("EC PRIVATE KEY", sec1)...), ""},
		"another's":     {chain, ecKey, "does not belong to the certificate"},
		"no PEM":        {chain, []byte("secret"), "there is no private key in PEM"},
		"no key":        {chain, encode("PRIVATE KEY", []byte("secret")), "cannot be read"},
		"no chain":      {key, key, "there is no certificate"},
		"a broken one":  {encode("CERTIFICATE", []byte("x")), key, "a certificate cannot be read"},
		"two of a kind": {append(bytes.Clone(chain), ecChain...), key, ""},
	} {
		_, err := ParsePair(tt.chain, tt.key)
		if !wanted.Error(err, tt.want) || (err != nil && strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	for _, name := range Algorithms() {
		p := ca
		if name != "RSA-4096" { // which takes seconds to create
			p = newCA(t, name)
		}
		if got := p.Algorithm(); got != name && name != "RSA-4096" {
			t.Errorf("%s is read as %s", name, got)
		}
	}
	if big.NewInt(0).Cmp(ca.Certificate().SerialNumber) >= 0 {
		t.Error("the serial number is not positive")
	}
}
