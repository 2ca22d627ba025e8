package acctest

import (
	"bytes"
	"cmp"
	"flag"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	helper "github.com/hashicorp/terraform-plugin-testing/helper/resource"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/provider"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

var updateWrites = flag.Bool("update-writes", false, "write the golden lists of writes")

// WriteStep is one configuration of GoldenWrites.
type WriteStep struct {
	Name, Config string
	// Before, unless nil, is called before the configuration is applied.
	Before func()
	// Destroy says that everything in the configuration is destroyed.
	Destroy bool
}

// GoldenWrites applies configurations one after the other, and compares what the provider writes to Kubernetes and to
// Consul in each, in order, with a golden file in testdata/writes of the package. With -update-writes, it writes the
// file.
func GoldenWrites(t *testing.T, namespace, file string, steps ...WriteStep) {
	t.Helper()
	var w writes
	c := helper.TestCase{ProtoV6ProviderFactories: map[string]func() (tfprotov6.ProviderServer, error){
		"consul": providerserver.NewProtocol6WithError(provider.NewWrapped("test", w.wrap)()),
	}}
	for _, s := range steps {
		c.Steps = append(c.Steps, helper.TestStep{Config: s.Config, Destroy: s.Destroy, PreConfig: func() {
			if s.Before != nil {
				s.Before()
			}
			w.step(s.Name)
		}})
	}
	helper.Test(t, c)
	w.compare(t, namespace, filepath.Join("testdata", "writes", file))
}

// writes are the successful writing requests, one per line. Repeated lines are listed once. What differs between runs
// is left out: Leases, the ordinals of servers, and generated names.
type writes struct {
	mu    sync.Mutex
	lines []string
}

// step starts a part of the list.
func (w *writes) step(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, "", "# "+name)
}

func (w *writes) compare(t *testing.T, namespace, golden string) {
	t.Helper()
	w.mu.Lock()
	got := strings.TrimSpace(strings.ReplaceAll(strings.Join(w.lines, "\n"), namespace, "NAMESPACE")) + "\n"
	// The leader may add a retired server as a peer again while the server is still a member.
	got = strings.ReplaceAll(got, "consul DELETE operator/raft/peer\nconsul PUT agent/force-leave/", "consul PUT agent/force-leave/")
	w.mu.Unlock()
	if *updateWrites {
		if err := os.MkdirAll(filepath.Dir(golden), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), got); diff != "" {
		t.Errorf("the writes, or their order, differ from %s (-update-writes writes it):\n%s", golden, diff)
	}
}

func (w *writes) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		line := describeWrite(r)
		resp, err := next.RoundTrip(r)
		// An exec ends with an upgrade of the connection.
		if err == nil && line != "" && (resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusSwitchingProtocols) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.lines == nil || w.lines[len(w.lines)-1] != line {
				w.lines = append(w.lines, line)
			}
		}
		return resp, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

var (
	ordinals = regexp.MustCompile(`(server-)\d+\b`)
	// generated is a name that Kubernetes generated (k8s.io/apimachinery/pkg/util/rand), or that has a digest of the namespace.
	generated = regexp.MustCompile(`(jobs/[a-z-]+-)([bcdfghjklmnpqrstvwxz2456789]{5}|[0-9a-f]{8})$`)
	// apiVersion is the version in the path of a request to Kubernetes.
	apiVersion = regexp.MustCompile(`^v\d`)
	uuids      = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
)

// describeWrite is the line of a request, "" for one that only reads.
func describeWrite(r *http.Request) string {
	line := ""
	if _, rest, isKubernetes := strings.Cut(r.URL.Path, "/apis/"); isKubernetes || strings.HasPrefix(r.URL.Path, "/api/") {
		if !isKubernetes {
			rest = strings.TrimPrefix(r.URL.Path, "/api/")
		}
		line = describeObject(r, strings.Split(rest, "/"))
	} else if r.Method != http.MethodGet && r.Method != http.MethodHead && r.URL.Path != "/v1/internal/acl/authorize" {
		line = "consul " + r.Method + " " + strings.TrimPrefix(r.URL.Path, "/v1/")
	}
	return generated.ReplaceAllString(uuids.ReplaceAllString(ordinals.ReplaceAllString(line, "${1}N"), "UUID"), "${1}*")
}

// describeObject is the line of a request to Kubernetes whose path has these parts after the prefix of the API.
func describeObject(r *http.Request, parts []string) string {
	if i := slices.Index(parts, "namespaces"); i >= 0 && len(parts) > i+2 {
		parts = parts[i+2:]
	} else if i := slices.IndexFunc(parts, apiVersion.MatchString); i >= 0 {
		parts = parts[i+1:]
	}
	if len(parts) == 0 { // the API itself
		return ""
	}
	name := path.Join(parts...)
	switch kind := parts[0]; {
	case len(parts) == 3 && parts[2] == "exec":
		return "exec " + parts[1] + ": " + firstWords(r.URL.Query()["command"])
	case r.Method == http.MethodGet || r.Method == http.MethodHead || r.URL.Query().Has("dryRun"),
		kind == "leases", kind == "selfsubjectaccessreviews", strings.HasSuffix(name, "/portforward"):
		return ""
	case kind == "events":
		if e, ok := object(r).(*corev1.Event); ok {
			return "event " + e.Reason
		}
	case kind == "persistentvolumeclaims" && bytes.Contains(body(r), []byte(server.AnnotationDataVersion)):
		return "" // the version is recorded whenever the provider observes the pod
	case r.Method == http.MethodPost && len(parts) == 1:
		if o, err := meta.Accessor(object(r)); err == nil {
			return "create " + kind + "/" + cmp.Or(o.GetName(), o.GetGenerateName()+"*")
		}
	case r.Method == http.MethodPatch && r.Header.Get("Content-Type") == "application/apply-patch+yaml":
		return "apply " + name
	}
	return strings.ToLower(r.Method) + " " + name
}

// firstWords identify a command, whose rest may be a long script.
func firstWords(command []string) string {
	text, _, _ := strings.Cut(strings.Join(command[:min(3, len(command))], " "), "\n")
	return text[:min(60, len(text))]
}

// body reads the body of a request, nil if the request has no body.
func body(r *http.Request) []byte {
	if r.GetBody == nil {
		return nil
	}
	b, err := r.GetBody()
	if err != nil {
		return nil
	}
	defer b.Close()
	all, err := io.ReadAll(b)
	if err != nil {
		return nil
	}
	return all
}

// object reads the object in the body of a request, nil if the body is not an object.
func object(r *http.Request) runtime.Object {
	o, _, err := scheme.Codecs.UniversalDeserializer().Decode(body(r), nil, nil)
	if err != nil {
		return nil
	}
	return o
}
