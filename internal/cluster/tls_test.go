package cluster

import (
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/diag"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// What clients have to follow at once is said, and only that; what changes no certificate
// leaves the attributes with them as they are.
func TestWarnTLSClients(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		before, after func(*server.TLS)
		want          string
		same          bool
	}{
		"turned on":          {func(s *server.TLS) { s.Stage = server.StagePlain }, func(*server.TLS) {}, "", false},
		"both at once":       {func(s *server.TLS) { s.Stage = server.StagePlain }, func(s *server.TLS) { s.Stage, s.HTTPSOnly = server.StageEncrypted, true }, "HTTP clients are cut off", false},
		"names":              {nil, func(s *server.TLS) { s.DNSNames = []string{"a.example"} }, "", false},
		"the first trigger":  {nil, func(s *server.TLS) { s.CATrigger = "1" }, "", false},
		"another trigger":    {func(s *server.TLS) { s.CATrigger = "1" }, func(s *server.TLS) { s.CATrigger = "2" }, "Clients have to trust another certificate authority", false},
		"an authority":       {nil, func(s *server.TLS) { s.CASecret = "ours" }, "Clients have to trust another certificate authority", false},
		"a certificate":      {nil, func(s *server.TLS) { s.CertificateSecret = "ours" }, "Clients have to trust another certificate authority", false},
		"keys":               {nil, func(s *server.TLS) { s.KeyAlgorithm = "RSA-2048" }, "Clients have to trust another certificate authority", false},
		"keys, CA brought":   {func(s *server.TLS) { s.CASecret = "ours" }, func(s *server.TLS) { s.CASecret, s.KeyAlgorithm = "ours", "RSA-2048" }, "", false},
		"HTTP is closed":     {nil, func(s *server.TLS) { s.HTTPSOnly = true }, "HTTP clients are cut off", true},
		"HTTP is opened":     {func(s *server.TLS) { s.HTTPSOnly = true }, func(*server.TLS) {}, "", true},
		"another port":       {nil, func(s *server.TLS) { s.HTTPSPort = 9501 }, "HTTPS clients have to follow", true},
		"newer versions":     {nil, func(s *server.TLS) { s.MinVersion = server.TLS13 }, "", true},
		"clients are judged": {nil, func(s *server.TLS) { s.VerifyClients = true }, "HTTPS clients need a certificate", true},
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
