package cluster

import (
	"context"
	"testing"
	"time"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/session"
)

// The plan warns of changes that clients must follow at once, and of nothing else. A change that replaces no
// certificate leaves the certificate attributes unchanged.
func TestWarnTLSClients(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		before, after func(*server.TLS)
		want          string
		same          bool
	}{
		"turned on":         {func(s *server.TLS) { s.Stage = server.StagePlain }, func(*server.TLS) {}, "", false},
		"both at once":      {func(s *server.TLS) { s.Stage = server.StagePlain }, func(s *server.TLS) { s.Stage, s.HTTPSOnly = server.StageEncrypted, true }, "HTTP clients are cut off", false},
		"names":             {nil, func(s *server.TLS) { s.DNSNames = []string{"a.example"} }, "", false},
		"the first trigger": {nil, func(s *server.TLS) { s.CATrigger = "1" }, "", false},
		"another trigger":   {func(s *server.TLS) { s.CATrigger = "1" }, func(s *server.TLS) { s.CATrigger = "2" }, "Clients must trust another certificate authority", false},
		"an authority":      {nil, func(s *server.TLS) { s.CASecret = "ours" }, "Clients must trust another certificate authority", false},
		"a certificate": {nil, func(s *server.TLS) { s.CertificateSecret = "ours" }, "Clients must trust another certificate " +
			"authority", false},
		"keys": {nil, func(s *server.TLS) { s.KeyAlgorithm = "RSA-2048" }, "Clients must trust another certificate " +
			"authority", false},
		"keys, CA brought":     {func(s *server.TLS) { s.CASecret = "ours" }, func(s *server.TLS) { s.CASecret, s.KeyAlgorithm = "ours", "RSA-2048" }, "", false},
		"HTTP is closed":       {nil, func(s *server.TLS) { s.HTTPSOnly = true }, "HTTP clients are cut off", true},
		"HTTP is opened":       {func(s *server.TLS) { s.HTTPSOnly = true }, func(*server.TLS) {}, "", true},
		"another port":         {nil, func(s *server.TLS) { s.HTTPSPort = 9501 }, "HTTPS clients must use another port", true},
		"newer versions":       {nil, func(s *server.TLS) { s.MinVersion = server.TLS13 }, "", true},
		"clients are verified": {nil, func(s *server.TLS) { s.VerifyClients = true }, "HTTPS clients need a certificate", true},
	} {
		before := server.TLS{Stage: server.StageEncrypted, TLSSettings: server.DefaultTLS}
		after := before
		if tt.before != nil {
			tt.before(&before)
		}
		tt.after(&after)
		var diags diag.Diagnostics
		warnTLSClients("consul", before, after, &diags)
		got := ""
		for _, d := range diags {
			got += d.Summary()
		}
		if got != tt.want || sameCertificates(before, after) != tt.same {
			t.Errorf("%s: warns %q, want %q; same certificates: %v", name, got, tt.want, !tt.same)
		}
	}
}

// The plan warns before the end of certificates that no apply can renew, and of nothing else.
func TestWarnExpiry(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		change     func(*server.TLS)
		ca, server time.Duration // from now
		want       int
	}{
		"a created one near its end":   {nil, time.Hour, time.Hour, 0},
		"far from it":                  {func(s *server.TLS) { s.CASecret = "ours" }, 100 * time.Hour, time.Hour, 0},
		"an authority near its end":    {func(s *server.TLS) { s.CASecret = "ours" }, 5 * time.Hour, time.Hour, 1},
		"a certificate near its end":   {func(s *server.TLS) { s.CertificateSecret = "ours" }, 100 * time.Hour, 5 * time.Hour, 1},
		"a certificate that has ended": {func(s *server.TLS) { s.CertificateSecret = "ours" }, 100 * time.Hour, -time.Hour, 1},
		"off":                          {func(s *server.TLS) { s.Stage, s.CASecret = server.StagePlain, "ours" }, time.Hour, time.Hour, 0},
	} {
		s := server.TLS{Stage: server.StageEncrypted, TLSSettings: server.DefaultTLS}
		s.RenewBefore = 10 * time.Hour
		if tt.change != nil {
			tt.change(&s)
		}
		var diags diag.Diagnostics
		var m model
		m.fromTLS(t.Context(), s, &diags)
		at := func(d time.Duration) tfattr.Value { return types.StringValue(now.Add(d).Format(time.RFC3339)) }
		m.CertificateExpiry = types.ObjectValueMust(expiryTypes, map[string]tfattr.Value{"ca": at(tt.ca), "server": at(tt.server)})
		m.warnExpiry(t.Context(), now, &diags)
		if diags.HasError() || len(diags) != tt.want {
			t.Errorf("%s: got %v, want %d warnings", name, diags, tt.want)
		}
	}
}

// A plan refuses a certificate authority that servers cannot use, unless the cluster already uses it, or the
// credential may not read it.
func TestCheckAllBrought(t *testing.T) {
	t.Parallel()
	forbidden := apierrors.NewForbidden(corev1.Resource("secrets"), "ours", nil)
	unusable := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "consul", Name: "ours"},
		Data:       map[string][]byte{"tls.crt": []byte("none")},
	}
	for name, tt := range map[string]struct {
		exists  bool
		secret  *corev1.Secret
		err     error
		want    string
		refused bool
	}{
		"unusable, created":    {false, unusable, nil, "No usable certificate", true},
		"unusable, unchanged":  {true, unusable, nil, "No usable certificate", false},
		"missing, created":     {false, nil, nil, "The Secret does not exist yet", false},
		"missing, unchanged":   {true, nil, nil, "The Secret does not exist yet", false},
		"forbidden, created":   {false, nil, forbidden, "The Secret was not checked", false},
		"forbidden, unchanged": {true, nil, forbidden, "The Secret was not checked", false},
		"no answer, created":   {false, nil, context.DeadlineExceeded, "The Secret was not checked", false},
	} {
		set := fake.NewClientset()
		set.PrependReactor("get", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
			if tt.secret == nil && tt.err == nil {
				return true, nil, apierrors.NewNotFound(corev1.Resource("secrets"), "ours")
			}
			return true, tt.secret, tt.err
		})
		s := server.TLS{Stage: server.StageEncrypted, TLSSettings: server.DefaultTLS}
		s.CASecret = "ours"
		plan := versioned("1.22.7", "", false)
		plan.Datacenter, plan.Domain = types.StringValue("dc1"), types.StringValue("consul")
		var diags diag.Diagnostics
		plan.fromTLS(t.Context(), s, &diags)
		var state *model
		if tt.exists {
			state = new(plan)
		}
		r := &Resource{clients: session.ClientsOf(&kube.Client{Interface: set})}
		r.checkAllBrought(t.Context(), state, plan, &diags)
		if len(diags) != 1 || diags[0].Summary() != tt.want || diags.HasError() != tt.refused {
			t.Errorf("%s: got %v, want %q", name, diags, tt.want)
		}
	}
}
