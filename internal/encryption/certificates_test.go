package encryption

import (
	"crypto/x509"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/pki"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/wanted"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

func tlsSpec(change func(*server.TLSSettings)) server.Spec {
	s := server.Spec{
		Namespace:  "ns",
		Name:       "consul",
		Datacenter: "dc1",
		Domain:     "consul",
		TLS:        server.TLS{Stage: server.StageEncrypted, TLSSettings: server.DefaultTLS},
	}
	change(&s.TLS.TLSSettings)
	return s
}

func unchanged(*server.TLSSettings) {}

func testAuthority(t *testing.T, validity time.Duration, now time.Time) authority {
	t.Helper()
	settings := server.DefaultTLS
	settings.CAValidity = validity
	a, err := newAuthority(settings, "ns/consul", now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A server that has loaded the present Secrets, one that still has their former content, and one that starts trust
// each other at all times.
func TestAuthorities_replacement(t *testing.T) {
	t.Parallel()
	now := time.Now()
	old := testAuthority(t, 10*365*24*time.Hour, now)
	all := []authorities{{current: old, trigger: "1"}}
	settings := tlsSpec(func(s *server.TLSSettings) { s.CATrigger = "2" }).TLS.TLSSettings
	for {
		next, ok, err := all[len(all)-1].advance(settings, "ns/consul", nil, now)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		all = append(all, next)
		if len(all) > 10 {
			t.Fatal("the replacement does not end")
		}
	}
	for i := 1; i < len(all); i++ {
		for _, pair := range [][2]authorities{{all[i-1], all[i]}, {all[i], all[i-1]}} {
			if !slices.ContainsFunc(pair[0].trusted(), pair[1].current.Certificate().Equal) {
				t.Errorf("step %d: one of two neighbours does not trust the other", i)
			}
		}
	}
	last := all[len(all)-1]
	if len(all) != 4 || last.current.same(old) || len(last.trusted()) != 1 || last.trigger != "2" {
		t.Errorf("%d steps end with %d trusted authorities", len(all)-1, len(last.trusted()))
	}
}

func TestAuthorities_due(t *testing.T) {
	t.Parallel()
	now := time.Now()
	made, other := testAuthority(t, 10*365*24*time.Hour, now), testAuthority(t, 10*365*24*time.Hour, now)
	old := testAuthority(t, 300*24*time.Hour, now)
	lost := authority{Pair: pki.Pair{Chain: made.Chain}, roots: made.roots}
	brought := made
	brought.brought = true
	newer := other
	newer.brought = true
	bundle := brought
	bundle.roots = append(slices.Clone(brought.roots), other.roots...)
	for name, tt := range map[string]struct {
		a        authorities
		settings func(*server.TLSSettings)
		brought  *authority
		want     string
	}{
		"nothing":           {authorities{current: made, trigger: "1"}, unchanged, nil, ""},
		"the first trigger": {authorities{current: made}, func(s *server.TLSSettings) { s.CATrigger = "1" }, nil, ""},
		"another trigger":   {authorities{current: made, trigger: "1"}, func(s *server.TLSSettings) { s.CATrigger = "2" }, nil, "the trigger changed"},
		"one is being replaced": {authorities{current: made, next: &other, trigger: "1"},
			func(s *server.TLSSettings) { s.CATrigger = "2" }, nil, ""},
		"another algorithm":            {authorities{current: made}, func(s *server.TLSSettings) { s.KeyAlgorithm = "RSA-2048" }, nil, "the declared key algorithm is RSA-2048"},
		"it ends too soon":             {authorities{current: old}, unchanged, nil, "the certificate authority expires on " + day(old.Certificate().NotAfter)},
		"its key is lost":              {authorities{current: lost}, unchanged, nil, "the key of the certificate authority is lost"},
		"brought, and in use":          {authorities{current: brought}, func(s *server.TLSSettings) { s.CASecret = "ours" }, &brought, ""},
		"brought, another":             {authorities{current: brought}, func(s *server.TLSSettings) { s.CASecret = "ours" }, &newer, "Secret ours has another certificate authority"},
		"brought, and more is trusted": {authorities{current: brought}, func(s *server.TLSSettings) { s.CASecret = "ours" }, &bundle, "Secret ours has another certificate authority"},
		"brought, and less is trusted": {authorities{current: bundle}, func(s *server.TLSSettings) { s.CASecret = "ours" }, &brought, "Secret ours has another certificate authority"},
		"brought, and its end is near": {authorities{current: old}, func(s *server.TLSSettings) { s.CASecret = "ours" }, &old, ""},
		"brought another meanwhile":    {authorities{current: made, next: &brought}, func(s *server.TLSSettings) { s.CASecret = "ours" }, &newer, "Secret ours has another certificate authority"},
		"no longer brought":            {authorities{current: brought}, unchanged, nil, "the provider makes the certificate authority"},
	} {
		if got := tt.a.due(tlsSpec(tt.settings).TLS.TLSSettings, tt.brought, now); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestCertificateDue(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ca := authorities{current: testAuthority(t, 10*365*24*time.Hour, now)}
	short := authorities{current: testAuthority(t, 24*time.Hour, now)}
	short.current.brought = true
	issue := func(a authorities) certificate {
		spec := tlsSpec(unchanged)
		dns, ips := server.CertificateNames(spec)
		p, err := pki.NewServer(a.current.Pair, spec.TLS.KeyAlgorithm, "server", dns, ips, spec.TLS.Validity, now)
		if err != nil {
			t.Fatal(err)
		}
		return certificate{Pair: p}
	}
	good, nearEnd := issue(ca), issue(short)
	lost := ca
	lost.current.Key = nil
	for name, tt := range map[string]struct {
		c     certificate
		a     authorities
		spec  server.Spec
		after time.Duration
		want  string
	}{
		"nothing":      {good, ca, tlsSpec(unchanged), 0, ""},
		"not yet":      {good, ca, tlsSpec(unchanged), 273 * 24 * time.Hour, ""},
		"near its end": {good, ca, tlsSpec(unchanged), 276 * 24 * time.Hour, "the certificate of the servers expires on"},
		"it has ended": {good, ca, tlsSpec(unchanged), 400 * 24 * time.Hour, "the certificate of the servers expires on"},
		"another name": {good, ca, tlsSpec(func(s *server.TLSSettings) { s.DNSNames = []string{"a.example"} }),
			0, "it has other names"},
		"another authority": {good, short, tlsSpec(unchanged), 0, "another certificate authority has signed it"},
		"another algorithm": {good, ca, tlsSpec(func(s *server.TLSSettings) { s.KeyAlgorithm = "RSA-2048" }),
			0, "the declared key algorithm of the servers is RSA-2048"},
		"no later than its CA": {nearEnd, short, tlsSpec(unchanged), time.Hour, ""},
		"no key to sign with":  {good, lost, tlsSpec(unchanged), 400 * 24 * time.Hour, ""},
		"the end is much nearer": {good, ca, tlsSpec(func(s *server.TLSSettings) { s.RenewBefore = 364 * 24 * time.Hour }),
			48 * time.Hour, "expires on"},
	} {
		got := certificateDue(tt.c, tt.a, tt.spec, nil, now.Add(tt.after))
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// A certificate of the user is used once all servers trust its authority, and not before.
func TestCertificateDue_brought(t *testing.T) {
	t.Parallel()
	now := time.Now()
	spec := tlsSpec(func(s *server.TLSSettings) { s.CertificateSecret = "issued" })
	issue := func(a authority) *pki.Pair {
		p, err := pki.NewServer(a.Pair, "RSA-2048", "server", server.NeededNames(spec), nil, time.Hour, now)
		if err != nil {
			t.Fatal(err)
		}
		return &p
	}
	made, ours := testAuthority(t, 24*time.Hour, now), testAuthority(t, 24*time.Hour, now)
	known := authority{Pair: pki.Pair{Chain: ours.Chain}, roots: ours.roots, brought: true}
	first, second, other := issue(ours), issue(ours), issue(made)
	for name, tt := range map[string]struct {
		c       *pki.Pair
		a       authorities
		brought *pki.Pair
		want    string
	}{
		"it is used":               {first, authorities{current: known}, first, ""},
		"another":                  {first, authorities{current: known}, second, "Secret issued has another certificate"},
		"its authority is next":    {other, authorities{current: made, next: &known}, first, ""},
		"its authority is current": {other, authorities{current: known, former: made.roots}, first, "Secret issued has another certificate"},
		"of another authority":     {first, authorities{current: known}, other, ""},
		"the provider issues one":  {first, authorities{current: made}, nil, "another certificate authority has signed it"},
	} {
		got := certificateDue(certificate{Pair: *tt.c}, tt.a, spec, tt.brought, now)
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestParseBroughtCertificate(t *testing.T) {
	t.Parallel()
	now := time.Now()
	spec := tlsSpec(func(s *server.TLSSettings) { s.CertificateSecret = "issued" })
	ca, stranger := testAuthority(t, 24*time.Hour, now), testAuthority(t, 24*time.Hour, now)
	data := func(dns []string) map[string][]byte {
		p, err := pki.NewServer(ca.Pair, "ECDSA-P384", "server", dns, nil, time.Hour, now)
		if err != nil {
			t.Fatal(err)
		}
		chain, key, err := p.PEM()
		if err != nil {
			t.Fatal(err)
		}
		return map[string][]byte{"tls.crt": chain, "tls.key": key, "ca.crt": pki.EncodeCertificates(ca.Chain)}
	}
	good := data(server.NeededNames(spec))
	with := func(key string, value []byte) map[string][]byte {
		d := maps.Clone(good)
		d[key] = value
		return d
	}
	for name, tt := range map[string]struct {
		data  map[string][]byte
		after time.Duration
		want  string
	}{
		"good":              {good, 0, ""},
		"no key":            {with("tls.key", nil), 0, "the key tls.key is missing"},
		"no authority":      {with("ca.crt", nil), 0, "the key ca.crt is missing"},
		"another's key":     {with("tls.key", data(nil)["tls.key"]), 0, "the private key does not belong to the certificate"},
		"another authority": {with("ca.crt", pki.EncodeCertificates(stranger.Chain)), 0, "that chains to one in ca.crt"},
		"no PEM":            {with("ca.crt", []byte("x")), 0, "ca.crt: there is no certificate in PEM"},
		"expired":           {good, 2 * time.Hour, "expired"},
		"no name of agents": {data([]string{"consul.ns.svc"}), 0, "the certificate is not valid for server.dc1.consul"},
		"no name of pods":   {data([]string{"server.dc1.consul"}), 0, "the certificate is not valid for consul.ns.svc"},
	} {
		a, p, err := parseBroughtCertificate(tt.data, spec, now.Add(tt.after))
		if !wanted.Error(err, tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		if err == nil && (!a.same(ca) || a.Key != nil || p.Algorithm() != "ECDSA-P384") {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

// Objects of others are neither read nor changed, and what cannot be read is reported.
func TestEnsureCertificates_leavesOthersAlone(t *testing.T) {
	t.Parallel()
	foreign := metav1.ObjectMeta{Namespace: "ns"}
	own := func(name string, data map[string][]byte) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: server.OwnerLabels("consul")}, Data: data}
	}
	named := func(name string) metav1.ObjectMeta { m := foreign; m.Name = name; return m }
	ensure := func(settings func(*server.TLSSettings), k *fake.Clientset) (bool, error) {
		return EnsureCertificates(t.Context(), consul.NewConnector(&kube.Client{Interface: k}).Cluster("ns", "consul"), tlsSpec(settings), false)
	}
	brought := func(s *server.TLSSettings) { s.CASecret = "ours" }
	chain, key, err := testAuthority(t, time.Hour, time.Now()).PEM()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		k        *fake.Clientset
		settings func(*server.TLSSettings)
		want     string
	}{
		"a Secret":      {fake.NewClientset(&corev1.Secret{ObjectMeta: named("consul-tls")}), unchanged, "this provider did not create it"},
		"another":       {fake.NewClientset(&corev1.Secret{ObjectMeta: named("consul-ca")}), unchanged, "this provider did not create it"},
		"the ConfigMap": {fake.NewClientset(&corev1.ConfigMap{ObjectMeta: named("consul-ca")}), unchanged, "this provider did not create it"},
		"not PEM": {fake.NewClientset(own("consul-ca", map[string][]byte{"tls.crt": []byte("secret"), "tls.key": []byte("secret")})),
			unchanged, "there is no certificate in PEM: delete the Secret while the servers run"},
		"no key": {fake.NewClientset(&corev1.Secret{ObjectMeta: named("ours"), Data: map[string][]byte{"tls.crt": chain}}),
			brought, "the key tls.key is missing"},
		"no chain": {fake.NewClientset(&corev1.Secret{ObjectMeta: named("ours"), Data: map[string][]byte{"tls.key": key}}),
			brought, "the key tls.crt is missing"},
		"brought": {fake.NewClientset(&corev1.Secret{ObjectMeta: named("ours"), Data: map[string][]byte{"tls.crt": chain, "tls.key": key}}),
			brought, ""},
		"nothing": {fake.NewClientset(), unchanged, ""},
	} {
		made, err := ensure(tt.settings, tt.k)
		if made != (tt.want == "") || (err == nil) != (tt.want == "") ||
			(err != nil && (!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret\""))) {
			t.Errorf("%s: %v, %v, want %q", name, made, err, tt.want)
		}
		if tt.want != "" {
			continue
		}
		s, err := tt.k.CoreV1().Secrets("ns").Get(t.Context(), "consul-ca", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, hasKey := s.Data["tls.key"]; hasKey != (name == "nothing") {
			t.Errorf("%s: the key of the authority is in the Secret: %v", name, hasKey)
		}
		if made, err := ensure(tt.settings, tt.k); made || err != nil {
			t.Errorf("%s, once more: %v, %v", name, made, err)
		}
	}
}

// A foreign authority among those that the servers trust is noticed.
func TestCertificateDrift_ofWhatIsTrusted(t *testing.T) {
	t.Parallel()
	k := fake.NewClientset()
	c, spec := consul.NewConnector(&kube.Client{Interface: k}).Cluster("ns", "consul"), tlsSpec(unchanged)
	if _, err := EnsureCertificates(t.Context(), c, spec, false); err != nil {
		t.Fatal(err)
	}
	if drift := CertificateDrift(t.Context(), c, spec); len(drift) > 0 {
		t.Errorf("at first: %q", drift)
	}
	s, err := k.CoreV1().Secrets("ns").Get(t.Context(), "consul-tls", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.Data["ca.crt"] = append(s.Data["ca.crt"], pki.EncodeCertificates(testAuthority(t, time.Hour, time.Now()).Chain)...)
	if _, err := k.CoreV1().Secrets("ns").Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if drift := CertificateDrift(t.Context(), c, spec); len(drift) != 1 ||
		!strings.Contains(drift[0], "the Secret consul-tls has other certificate authorities") {
		t.Errorf("the drift is %q", drift)
	}
}

// Starting servers load the Secret: only running ones have to be told.
func TestEnsureCertificates_tellsRunningServers(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{false, true} {
		k := fake.NewClientset()
		if _, err := EnsureCertificates(
			t.Context(), consul.NewConnector(&kube.Client{Interface: k}).Cluster("ns", "consul"), tlsSpec(unchanged), running,
		); err != nil {
			t.Fatal(err)
		}
		s, err := k.CoreV1().Secrets("ns").Get(t.Context(), "consul-tls", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if c, err := parseCertificate(s); err != nil || c.unloaded != running {
			t.Errorf("servers run: %v; %+v, %v", running, c.unloaded, err)
		}
	}
}

func TestAuthorities_trustedOnce(t *testing.T) {
	t.Parallel()
	a, b := testAuthority(t, time.Hour, time.Now()), testAuthority(t, time.Hour, time.Now())
	got := authorities{current: a, next: &b, former: []*x509.Certificate{a.Certificate(), b.Certificate()}}.trusted()
	if len(got) != 2 || !got[0].Equal(a.Certificate()) {
		t.Errorf("%d are trusted", len(got))
	}
}

// Another apply reverts a replacement that a server refuses, at whatever point it stopped: no server has to load what
// was refused, and the servers trust each other at all times.
func TestSettleCertificates_revertsWhatIsRefused(t *testing.T) {
	t.Parallel()
	now := time.Now()
	broughtAuthority := func() *authority {
		a := testAuthority(t, 10*365*24*time.Hour, now)
		a.brought = true
		return &a
	}
	old, refused, third := broughtAuthority(), broughtAuthority(), broughtAuthority()
	root := broughtAuthority()
	for name, tt := range map[string]struct {
		// before and after are the contents of the user's Secret, nil if the provider creates the authority.
		before, after *authority
		trustOnly     bool // the servers already refuse to trust the authority
		forgetKept    bool // the Secret was written without the kept certificate
		want          func(before *x509.Certificate, a authorities) bool
	}{
		"back to the old one":                          {before: old, after: old, want: isCurrent(old)},
		"back to the old one, which is not kept":       {before: old, after: old, forgetKept: true, want: isCurrent(old)},
		"back to the old one before it is used":        {before: old, after: old, trustOnly: true, want: isCurrent(old)},
		"to a third one":                               {before: old, after: third, want: isCurrent(third)},
		"to a third one before the second one is used": {before: old, after: third, trustOnly: true, want: isCurrent(third)},
		"back to the one that the provider made": {want: func(before *x509.Certificate, a authorities) bool {
			return a.current.Certificate().Equal(before) && a.current.Key != nil
		}},
		"back to the one that the provider made before it is used": {trustOnly: true, want: func(before *x509.Certificate, a authorities) bool {
			return a.current.Certificate().Equal(before) && a.current.Key != nil
		}},
		"from one that the provider made to a third one": {after: root, want: isCurrent(root)},
	} {
		k := fake.NewClientset()
		c := consul.NewConnector(&kube.Client{Interface: k}).Cluster("ns", "consul")
		declare := func(a *authority) server.Spec {
			if a == nil {
				return tlsSpec(unchanged)
			}
			chain, key, err := a.PEM()
			if err != nil {
				t.Fatal(err)
			}
			s := &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "ours"},
				Data:       map[string][]byte{"tls.crt": chain, "tls.key": key},
			}
			if _, err := k.CoreV1().Secrets("ns").Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
				if _, err := k.CoreV1().Secrets("ns").Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			return tlsSpec(func(s *server.TLSSettings) { s.CASecret = "ours" })
		}
		read := func(name string) *corev1.Secret {
			o, err := k.Tracker().Get(corev1.SchemeGroupVersion.WithResource("secrets"), "ns", name) // a reactor must not use the client
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return o.(*corev1.Secret).DeepCopy() //nolint:forcetypeassert // a Secret
		}
		var last *certificate
		published := func() *certificate { // and compares it with what was published before
			p, err := parseCertificate(read("consul-tls"))
			if err != nil {
				t.Fatal(err)
			}
			if last != nil {
				for _, pair := range [][2]*certificate{{last, p}, {p, last}} {
					if err := pki.CheckChain(pair[0].Pair, pair[1].trusted, now); err != nil {
						t.Errorf("%s: servers distrust each other: %v", name, err)
					}
				}
			}
			last = p
			return p
		}
		k.PrependReactor("list", "pods", func(k8stesting.Action) (bool, runtime.Object, error) {
			p := published()
			if pki.CheckChain(p.Pair, refused.roots, now) == nil || (tt.trustOnly && slices.ContainsFunc(p.trusted, refused.Certificate().Equal)) {
				return true, nil, errors.New("refused")
			}
			return false, nil, nil
		})
		spec := declare(tt.before)
		if _, err := EnsureCertificates(t.Context(), c, spec, false); err != nil {
			t.Fatal(err)
		}
		first := published().trusted[0]
		spec = declare(refused)
		if err := SettleCertificates(t.Context(), c, "", spec); err == nil || !strings.HasSuffix(err.Error(), ": refused") {
			t.Fatalf("%s: %v", name, err)
		}
		if ca := read("consul-ca"); tt.forgetKept {
			for _, key := range []string{"kept-tls.crt", "kept-tls.key", "kept-ca.crt", keptServerCert, keptServerKey} {
				delete(ca.Data, key)
			}
			if _, err := k.CoreV1().Secrets("ns").Update(t.Context(), ca, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		spec = declare(tt.after)
		if drift := CertificateDrift(t.Context(), c, spec); len(drift) != 1 || !strings.Contains(drift[0], "will revert") {
			t.Errorf("%s: the drift is %q", name, drift)
		}
		if _, err := EnsureCertificates(t.Context(), c, spec, true); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if p := published(); pki.CheckChain(p.Pair, refused.roots, now) == nil {
			t.Errorf("%s: servers have to load the refused certificate", name)
		}
		if err := SettleCertificates(t.Context(), c, "", spec); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		a, err := parseAuthorities(read("consul-ca"), tt.after)
		if err != nil || a.next != nil || len(a.former) > 0 || a.kept != nil || !tt.want(first, a) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
		for key := range read("consul-ca").Data {
			if strings.HasPrefix(key, keptPrefix) || key == formerKey {
				t.Errorf("%s: %s is kept forever", name, key)
			}
		}
		if p := published(); len(p.trusted) != 1 || p.unloaded || pki.CheckChain(p.Pair, a.current.roots, now) != nil {
			t.Errorf("%s: it ends with a certificate that is not trusted", name)
		}
		if drift := CertificateDrift(t.Context(), c, spec); len(drift) > 0 {
			t.Errorf("%s: it ends with the drift %q", name, drift)
		}
	}
}

func isCurrent(want *authority) func(*x509.Certificate, authorities) bool {
	return func(_ *x509.Certificate, a authorities) bool { return a.current.same(*want) }
}

// The authority of the servers' certificate stays trusted until they have another certificate.
func TestSettleCertificates_dropsNoAuthorityInUse(t *testing.T) {
	t.Parallel()
	k := fake.NewClientset()
	c := consul.NewConnector(&kube.Client{Interface: k}).Cluster("ns", "consul")
	if _, err := EnsureCertificates(t.Context(), c, tlsSpec(unchanged), false); err != nil {
		t.Fatal(err)
	}
	ca, err := k.CoreV1().Secrets("ns").Get(t.Context(), "consul-ca", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// Step 2 was recorded, and the new authority of the user is no longer declared before it has signed anything.
	other := pki.EncodeCertificates(testAuthority(t, 24*time.Hour, time.Now()).Chain)
	ca.Annotations = map[string]string{annotationBrought: "true"}
	ca.Data = map[string][]byte{"tls.crt": other, "ca.crt": other, "former-ca.crt": ca.Data["ca.crt"]}
	if _, err := k.CoreV1().Secrets("ns").Update(t.Context(), ca, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := SettleCertificates(t.Context(), c, "", tlsSpec(unchanged)); err == nil ||
		!strings.Contains(err.Error(), "delete the Secret ns/consul-ca") {
		t.Error(err)
	}
	s, err := k.CoreV1().Secrets("ns").Get(t.Context(), "consul-tls", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := parseCertificate(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := pki.CheckChain(p.Pair, p.trusted, time.Now()); err != nil {
		t.Error(err)
	}
}
