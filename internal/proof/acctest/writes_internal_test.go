package acctest

import (
	"net/http"
	"strings"
	"testing"
)

// A line shows what is written to which object, and nothing that differs between runs.
func TestDescribeWrite(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ method, url, contentType, body, want string }{
		{"GET", "/api/v1/namespaces/ns/pods/consul-server-0", "", "", ""},
		{
			"PATCH", "/apis/apps/v1/namespaces/ns/statefulsets/consul-server?fieldManager=x", "application/apply-patch+yaml", "{}",
			"apply statefulsets/consul-server",
		},
		{"PATCH", "/apis/apps/v1/namespaces/ns/statefulsets/consul-server?dryRun=All", "application/apply-patch+yaml", "{}", ""},
		{"PATCH", "/api/v1/namespaces/ns/pods/consul-server-2", "application/merge-patch+json", "{}", "patch pods/consul-server-N"},
		{"PATCH", "/api/v1/namespaces/ns", "application/apply-patch+yaml", "{}", "apply namespaces/ns"},
		{
			"PATCH", "/api/v1/namespaces/ns/persistentvolumeclaims/data-consul-server-0", "application/merge-patch+json",
			`{"metadata":{"annotations":{"terraform-provider-consul-k8s/data-version":"1.22.7"}}}`, "",
		},
		{
			"PATCH", "/api/v1/namespaces/ns/persistentvolumeclaims/data-consul-server-0", "application/merge-patch+json", `{"spec":{}}`,
			"patch persistentvolumeclaims/data-consul-server-N",
		},
		{"GET", "/apis/apps/v1", "", "", ""},
		{
			"POST", "/api/v1/namespaces/ns/secrets", "application/json", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"consul-tls"}}`,
			"create secrets/consul-tls",
		},
		{"POST", "/api/v1/namespaces/ns/pods/consul-server-1/eviction", "application/json", "{}", "post pods/consul-server-N/eviction"},
		{
			"POST", "/api/v1/namespaces/ns/events", "application/json", `{"apiVersion":"v1","kind":"Event","reason":"RestartServer"}`,
			"event RestartServer",
		},
		{"GET", "/api/v1/namespaces/ns/pods/consul-server-1/exec?command=consul&command=reload", "", "", "exec consul-server-N: consul reload"},
		{"POST", "/api/v1/namespaces/ns/pods/consul-server-1/portforward", "", "", ""},
		{"PUT", "/apis/coordination.k8s.io/v1/namespaces/ns/leases/consul-server-rollout", "", "", ""},
		{"DELETE", "/apis/batch/v1/namespaces/ns/jobs/consul-check-8973973b", "", "", "delete jobs/consul-check-*"},
		{
			"POST", "/apis/batch/v1/namespaces/ns/jobs", "application/json",
			`{"apiVersion":"batch/v1","kind":"Job","metadata":{"generateName":"consul-list-"}}`, "create jobs/consul-list-*",
		},
		{"DELETE", "/apis/batch/v1/namespaces/ns/jobs/consul-list-qd5c9", "", "", "delete jobs/consul-list-*"},
		{"GET", "/v1/operator/raft/configuration", "", "", ""},
		{"DELETE", "/v1/acl/token/8f8b1e3a-5d1c-4f0e-9c64-3f1d2a7b9e55", "", "", "consul DELETE acl/token/UUID"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), tt.method, "http://localhost"+tt.url, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", tt.contentType)
		if got := describeWrite(r); got != tt.want {
			t.Errorf("%s %s: %q, want %q", tt.method, tt.url, got, tt.want)
		}
	}
}
