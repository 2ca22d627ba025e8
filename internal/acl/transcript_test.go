package acl

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/session"
)

var update = flag.Bool("update", false, "write the golden files")

// The requests to Consul, the diagnostics, and the state of plans, applies, reads, and imports of each object do not
// change.
func TestObjects_doWhatTheTranscriptSays(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string]func(*transcript){
		"policy": policySteps, "role": roleSteps, "auth_method": authMethodSteps, "binding_rule": bindingRuleSteps, "token": tokenSteps,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTranscript(t)
			steps(s)
			file := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(s.text.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.text.String(); got != string(want) {
				at := 0
				for at < min(len(got), len(want)) && got[at] == want[at] {
					at++
				}
				t.Errorf("it differs from %s:\n%s", file, got[max(0, at-500):min(len(got), at+500)])
			}
		})
	}
}

type values = map[string]any

func policySteps(s *transcript) {
	const typeName = "consul_k8s_policy"
	base := values{"name": "a", "rules": `key "x" { policy = "read" }`, "datacenters": []any{"dc1"}}
	s.validate(typeName, base, "name", "builtin/x", "global-management", "a b", "a/b")
	a := s.apply(typeName, nil, base)
	s.apply(typeName, a, with(base, "name", "b", "description", "d"))
	s.apply(typeName, a, with(base, "rules", `{"key": {"x": {"policy": "read"}}}`))
	lifecycle(s, typeName, base, "name", "a")
	s.importState(typeName, "ns/consul/global-management")
	s.consul.objects["roles"] = []values{{"ID": "r1", "Name": "web", "Policies": []any{values{"ID": id(1), "Name": "a"}}}}
	s.consul.objects["tokens"] = []values{{"AccessorID": "t1", "Policies": []any{values{"ID": id(1), "Name": "a"}}}}
	s.session("the policy is in use")
	s.destroy(typeName, s.importState(typeName, "ns/consul/a"))
}

func roleSteps(s *transcript) {
	const typeName = "consul_k8s_role"
	s.consul.objects["policies"] = []values{{"ID": id(90), "Name": "p"}, {"ID": id(91), "Name": "q"}}
	base := values{
		"name": "a", "policies": []any{"p"}, "service_identities": []any{values{"service_name": "web", "datacenters": []any{"dc1"}}},
		"node_identities":    []any{values{"node_name": "n", "datacenter": "dc1"}},
		"templated_policies": []any{values{"template_name": "builtin/service", "name": "x"}},
	}
	s.validate(typeName, base, "name", "a/b")
	s.validate(typeName, base, "templated_policies", []any{values{"template_name": "x"}}, []any{values{"template_name": "builtin/node"}},
		[]any{values{"template_name": "builtin/node", "name": "A B"}})
	a := s.apply(typeName, nil, base)
	s.apply(typeName, a, with(base, "name", "b", "description", "d", "policies", []any{"p", "q"}))
	s.apply(typeName, a, with(base, "policies", []any{id(90)}))
	lifecycle(s, typeName, base, "name", "a")
	s.session("a policy is gone")
	s.consul.objects["policies"] = nil
	s.plan(typeName, s.read(typeName, a), base)
	s.plan(typeName, nil, with(base, "name", "c"))
	s.consul.objects["tokens"] = []values{{"AccessorID": "t1", "Roles": []any{values{"ID": id(1), "Name": "a"}}}}
	s.session("the role is in use")
	s.destroy(typeName, s.importState(typeName, "ns/consul/a"))
}

func authMethodSteps(s *transcript) {
	const typeName = "consul_k8s_auth_method"
	base := values{"name": "a", "type": "jwt", "config_json": `{"JWKSURL": "https://example.com"}`, "max_token_ttl": "1h"}
	s.validate(typeName, base, "type", "oidc", "x", "kubernetes", "aws-iam")
	s.validate(typeName, base, "config_json", nil, "x", `{"x": 1}`)
	s.validate(typeName, base, "kubernetes", values{"host": "x y", "ca_cert": "c"}, values{"host": "http://x", "service_account_jwt_wo": "x"})
	a := s.apply(typeName, nil, base)
	s.apply(typeName, a, with(base, "description", "d", "max_token_ttl", "60m"))
	s.apply(typeName, a, with(base, "type", "aws-iam"))
	lifecycle(s, typeName, base, "name", "a")
	s.session("in another Kubernetes cluster")
	kubernetes := values{
		"host": "https://192.0.2.1", "ca_cert": "c", "service_account_jwt_wo": "e30.e30.e30", "service_account_jwt_wo_version": "1",
	}
	k := s.apply(typeName, nil, values{"name": "k", "type": "kubernetes", "kubernetes": kubernetes})
	s.apply(typeName, k, values{"name": "k", "type": "kubernetes", "display_name": "K", "kubernetes": kubernetes})
	s.consul.find("auth-methods", "k")["Config"].(values)["ServiceAccountJWT"] = "e30.e30.other" //nolint:forcetypeassert // as it was written
	s.session("another token was written")
	s.read(typeName, k)
	s.importState(typeName, "ns/consul/k")
	s.plan(typeName, nil, values{"name": "in", "type": "kubernetes"})
	s.consul.objects["tokens"] = []values{{"AccessorID": "t1", "AuthMethod": "k"}}
	s.session("the auth method is in use")
	s.destroy(typeName, k)
}

func bindingRuleSteps(s *transcript) {
	const typeName = "consul_k8s_binding_rule"
	s.consul.objects["auth-methods"] = []values{{"Name": "m", "Type": "kubernetes"}}
	s.consul.objects["roles"] = []values{{"ID": id(90), "Name": "p"}}
	base := values{"auth_method": "m", "bind_type": "role", "bind_name": "p", "selector": `serviceaccount.name == "x"`}
	s.validate(typeName, base, "selector", "x", `a.b == "c"`)
	s.validate(typeName, base, "bind_name", "a/b", "${x", "${x.y}", "a b")
	s.validate(typeName, base, "bind_vars", values{"name": "x"})
	s.validate(typeName, with(base, "bind_name", "builtin/node"), "bind_type", "templated-policy", "x", "policy")
	a := s.apply(typeName, nil, base)
	s.apply(typeName, a, with(base, "bind_type", "templated-policy", "bind_name", "builtin/node", "bind_vars", values{"name": "x"}))
	s.apply(typeName, a, with(base, "bind_name", "q", "selector", `value.x == "y"`))
	lifecycle(s, typeName, base, "description", "a")
	s.session("the auth method is gone")
	s.consul.objects["auth-methods"] = nil
	s.apply(typeName, nil, base)
}

func tokenSteps(s *transcript) {
	const typeName = "consul_k8s_token"
	s.consul.objects["policies"] = []values{{"ID": id(90), "Name": "p"}, {"ID": id(91), "Name": "q"}}
	s.consul.objects["roles"] = []values{{"ID": id(92), "Name": "r"}}
	base := values{"accessor_id": accessor, "policies": []any{"p"}, "roles": []any{"r"}, "secret": values{"name": "x"}}
	s.validate(typeName, base, "accessor_id", "x", id(0), consulacl.AnonymousAccessorID, "00000000-0000-0000-0000-000000000009")
	s.validate(typeName, base, "expiration_time", "x")
	s.validate(typeName, base, "secret", values{"name": "X y"}, values{"name": "x", "key": "a b"}, values{"name": "x", "key": "a."},
		values{"name": "x", "template": "x"}, values{"name": "x", "template": "{{"})
	s.validate(typeName, with(base, "secret", nil), "secrets", []any{values{"name": "x"}, values{"name": "x", "key": "token"}})
	s.validate(typeName, with(base, "secret_id_wo", "x"), "rotation", values{"trigger": "x"})
	a := s.apply(typeName, nil, base)
	s.apply(typeName, a, with(base, "description", "d", "policies", []any{"q"}, "roles", []any{id(92)}))
	s.apply(typeName, a, with(base, "secret", values{"name": "y", "namespace": "app"}))
	lifecycle(s, typeName, base, "accessor_id", accessor)
	s.session("the anonymous token")
	anonymous := values{"accessor_id": consulacl.AnonymousAccessorID, "policies": []any{"p"}}
	s.consul.objects["tokens"] = append(s.consul.objects["tokens"], values{
		"AccessorID": consulacl.AnonymousAccessorID, "Policies": []any{values{"ID": id(91), "Name": "q"}},
	})
	s.destroy(typeName, s.apply(typeName, nil, anonymous))
	s.importState(typeName, "ns/consul/anonymous")
	s.session("a rotation")
	rotated := values{
		"secret": values{"name": "z"}, "secret_id_wo": secret, "secret_id_wo_version": "1", "rotation": values{"grace_period": "0s"},
		"expiration_time": "2999-01-01T00:00:00Z",
	}
	s.apply(typeName, nil, rotated)
	delete(rotated, "expiration_time")
	r := s.apply(typeName, nil, rotated)
	s.apply(typeName, r, with(rotated, "secret_id_wo_version", "2", "secret_id_wo", "6f6b3f8e-4d0a-4dd1-8e4e-6f3f2b1a9c77"))
	s.apply(typeName, r, with(rotated, "expiration_time", "2001-01-01T00:00:00Z"))
	s.session("a policy is gone")
	s.consul.objects["policies"] = nil
	s.plan(typeName, s.read(typeName, a), base)
	s.plan(typeName, nil, values{"policies": []any{"p"}})
}

// lifecycle is what can happen to any object. key is an attribute that identifies an object, or any other.
func lifecycle(s *transcript, typeName string, base values, key, value string) {
	s.session("refresh, and nothing to do")
	object := s.read(typeName, s.last)
	s.apply(typeName, object, base)
	s.session("import")
	s.importState(typeName, "ns/consul/"+value)
	s.importState(typeName, "ns/consul/"+object.id())
	s.importState(typeName, "ns/consul/nothing")
	s.importState(typeName, "nonsense")
	if s.sources[typeName] != nil {
		s.session("data source")
		s.source(typeName, values{key: value})
		s.source(typeName, values{key: cmp.Or(map[string]string{"accessor_id": id(70)}[key], "nothing")})
	}
	if key == "name" && typeName != "consul_k8s_auth_method" {
		s.source(typeName, values{"id": object.id()})
	}
	s.session("one that exists already")
	s.apply(typeName, nil, base)
	s.session("one that exists already with other content")
	s.apply(typeName, nil, with(base, "description", "other"))
	s.session("two of them")
	s.plan(typeName, nil, base)
	s.plan(typeName, nil, base)
	s.session("a rename in another cluster")
	s.apply(typeName, object, with(base, "cluster", "ns/other", key, value))
	s.session("no right")
	s.consul.fails = "Permission denied: token with AccessorID 'x' lacks permission 'acl:write'"
	s.apply(typeName, object, with(base, "description", "changed"))
	s.apply(typeName, nil, with(base, key, cmp.Or(map[string]string{"accessor_id": id(70)}[key], "c")))
	s.destroy(typeName, object)
	s.session("no credential")
	s.consul.fails = "ACL not found"
	s.read(typeName, object)
	s.apply(typeName, object, with(base, "description", "changed"))
	s.destroy(typeName, object)
	s.consul.fails = ""
	s.session("the same object under another address")
	s.destroy(typeName, s.apply(typeName, nil, with(base, key, cmp.Or(map[string]string{"accessor_id": id(71)}[key], "moved"))))
	s.session("destroy, twice")
	s.destroy(typeName, object)
	s.destroy(typeName, object)
	s.session("it is gone")
	s.read(typeName, object)
	s.apply(typeName, object, with(base, "description", "changed"))
	s.session("no cluster")
	if err := s.kube.AppsV1().StatefulSets("ns").Delete(s.t.Context(), server.StatefulSetName("consul"), metav1.DeleteOptions{}); err != nil {
		s.t.Fatal(err)
	}
	secrets := s.kube.CoreV1().Secrets("ns")
	bootstrap, err := secrets.Get(s.t.Context(), "bootstrap", metav1.GetOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	_ = secrets.Delete(s.t.Context(), "bootstrap", metav1.DeleteOptions{})
	s.read(typeName, object)
	s.plan(typeName, nil, base)
	s.destroy(typeName, object)
	s.importState(typeName, "ns/consul/"+value)
	s.create(bootstrap)
	s.session("again")
	s.apply(typeName, nil, base)
}

func with(base values, more ...any) values {
	out := maps.Clone(base)
	for pair := range slices.Chunk(more, 2) {
		out[pair[0].(string)] = pair[1] //nolint:forcetypeassert // names and values
	}
	return out
}

func id(n int) string { return fmt.Sprintf("%08d-0000-4000-8000-000000000000", n) }

// stored is what Terraform stores of a resource.
type stored struct {
	state    *tfprotov6.DynamicValue
	identity *tfprotov6.ResourceIdentityData
	private  []byte
	values   tftypes.Value
}

func (o *stored) id() string {
	var of map[string]tftypes.Value
	var id string
	if o == nil || o.values.As(&of) != nil || of["id"].As(&id) != nil {
		return ""
	}
	return id
}

type transcript struct {
	t      *testing.T
	text   strings.Builder
	consul *consulStore
	kube   *fake.Clientset
	client *kube.Client
	server tfprotov6.ProviderServer
	schema map[string]*tfprotov6.Schema
	// sources are the schemas of the data sources.
	sources map[string]*tfprotov6.Schema
	last    *stored
}

func newTranscript(t *testing.T) *transcript {
	t.Helper()
	labels := server.OwnerLabels("consul")
	labels[server.LabelComponent] = consulacl.ComponentBootstrap
	k := fake.NewClientset(
		&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: server.PodName("consul", 0), UID: "pod", Labels: server.SelectorLabels("consul")},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning},
		},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "app"}},
	)
	s := &transcript{t: t, kube: k, consul: &consulStore{objects: map[string][]values{}}}
	s.create(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "bootstrap", Labels: labels, Annotations: map[string]string{server.ManagedBy + "/token-key": "token"},
		},
		Data: map[string][]byte{"token": []byte("management")},
	})
	h := httptest.NewServer(s.consul)
	t.Cleanup(h.Close)
	s.client = &kube.Client{Interface: k, Dial: func(ctx context.Context, _, _ string, _ int) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", h.Listener.Addr().String())
	}}
	s.session("create and change")
	return s
}

// create creates the bootstrap Secret and the StatefulSet of the cluster.
func (s *transcript) create(secret *corev1.Secret) {
	sts := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: server.StatefulSetName("consul")}}
	if _, err := s.kube.AppsV1().StatefulSets("ns").Create(s.t.Context(), sts, metav1.CreateOptions{}); err != nil {
		s.t.Fatal(err)
	}
	secret.ResourceVersion = ""
	if _, err := s.kube.CoreV1().Secrets("ns").Create(s.t.Context(), secret, metav1.CreateOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

// session starts another run of Terraform.
func (s *transcript) session(title string) {
	fmt.Fprintf(&s.text, "\n==== %s\n", title)
	p := &onlyObjects{session.ClientsOf(s.client)}
	server, err := providerserver.NewProtocol6WithError(p)()
	if err != nil {
		s.t.Fatal(err)
	}
	schemas, err := server.GetProviderSchema(s.t.Context(), &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	of := schemas.Provider.ValueType()
	empty := s.dynamic(of, tftypes.NewValue(of, map[string]tftypes.Value{}))
	if _, err := server.ConfigureProvider(s.t.Context(), &tfprotov6.ConfigureProviderRequest{Config: empty}); err != nil {
		s.t.Fatal(err)
	}
	s.server, s.schema, s.sources = server, schemas.ResourceSchemas, schemas.DataSourceSchemas
}

func (s *transcript) log(title string, diags []*tfprotov6.Diagnostic, more ...string) {
	fmt.Fprintf(&s.text, "-- %s\n", title)
	for _, r := range s.consul.take() {
		fmt.Fprintf(&s.text, "   %s\n", r)
	}
	for _, d := range diags {
		fmt.Fprintf(&s.text, "   %s %s: %s: %s\n", d.Severity, d.Attribute, d.Summary, d.Detail)
	}
	for _, m := range more {
		fmt.Fprintf(&s.text, "   %s\n", m)
	}
}

func (s *transcript) plan(typeName string, prior *stored, config values) (*tfprotov6.PlanResourceChangeResponse, *tfprotov6.DynamicValue) {
	of := s.schema[typeName].ValueType()
	null := s.dynamic(of, tftypes.NewValue(of, nil))
	req := &tfprotov6.PlanResourceChangeRequest{TypeName: typeName, PriorState: null, Config: null, ProposedNewState: null}
	if prior != nil {
		req.PriorState, req.PriorPrivate, req.PriorIdentity = prior.state, prior.private, prior.identity
	}
	if config != nil {
		config = maps.Clone(config)
		if config["cluster"] == nil {
			config["cluster"] = "ns/consul"
		}
		req.Config = s.dynamic(of, value(of, config))
		req.ProposedNewState = s.dynamic(of, s.proposed(typeName, prior, value(of, config)))
	}
	resp, err := s.server.PlanResourceChange(s.t.Context(), req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.log("plan", resp.Diagnostics, "replace "+fmt.Sprint(resp.RequiresReplace), s.show(of, resp.PlannedState))
	return resp, req.Config
}

func (s *transcript) apply(typeName string, prior *stored, config values) *stored {
	planned, c := s.plan(typeName, prior, config)
	if len(planned.RequiresReplace) > 0 {
		return prior
	}
	of := s.schema[typeName].ValueType()
	req := &tfprotov6.ApplyResourceChangeRequest{
		TypeName: typeName, PriorState: s.dynamic(of, tftypes.NewValue(of, nil)), PlannedState: planned.PlannedState, Config: c,
		PlannedPrivate: planned.PlannedPrivate, PlannedIdentity: planned.PlannedIdentity,
	}
	if prior != nil {
		req.PriorState = prior.state
	}
	resp, err := s.server.ApplyResourceChange(s.t.Context(), req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.log("apply", resp.Diagnostics, s.show(of, resp.NewState), privateState(resp.Private), s.identity(resp.NewIdentity))
	out := &stored{state: resp.NewState, private: resp.Private, identity: resp.NewIdentity, values: s.value(of, resp.NewState)}
	if config != nil {
		s.last = out
	}
	return out
}

func (s *transcript) destroy(typeName string, object *stored) { s.apply(typeName, object, nil) }

func (s *transcript) read(typeName string, object *stored) *stored {
	of := s.schema[typeName].ValueType()
	resp, err := s.server.ReadResource(s.t.Context(), &tfprotov6.ReadResourceRequest{
		TypeName: typeName, CurrentState: object.state, Private: object.private, CurrentIdentity: object.identity,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.log("read", resp.Diagnostics, s.show(of, resp.NewState), privateState(resp.Private), s.identity(resp.NewIdentity))
	return &stored{state: resp.NewState, private: resp.Private, identity: resp.NewIdentity, values: s.value(of, resp.NewState)}
}

func (s *transcript) importState(typeName, id string) *stored {
	resp, err := s.server.ImportResourceState(s.t.Context(), &tfprotov6.ImportResourceStateRequest{TypeName: typeName, ID: id})
	if err != nil {
		s.t.Fatal(err)
	}
	s.log("import "+id, resp.Diagnostics)
	if len(resp.ImportedResources) == 0 {
		return nil
	}
	r := resp.ImportedResources[0]
	return s.read(typeName, &stored{state: r.State, private: r.Private, identity: r.Identity})
}

// validate validates a configuration with each of some values of an attribute.
func (s *transcript) validate(typeName string, base values, attribute string, bad ...any) {
	of := s.schema[typeName].ValueType()
	for _, v := range bad {
		resp, err := s.server.ValidateResourceConfig(s.t.Context(), &tfprotov6.ValidateResourceConfigRequest{
			TypeName: typeName, Config: s.dynamic(of, value(of, with(base, "cluster", "ns/consul", attribute, v))),
			ClientCapabilities: &tfprotov6.ValidateResourceConfigClientCapabilities{WriteOnlyAttributesAllowed: true},
		})
		if err != nil {
			s.t.Fatal(err)
		}
		// Diagnostics have no order.
		slices.SortFunc(resp.Diagnostics, func(a, b *tfprotov6.Diagnostic) int { return cmp.Compare(a.Detail, b.Detail) })
		s.log(fmt.Sprintf("validate %s %v", attribute, v), resp.Diagnostics)
	}
}

// source reads a data source.
func (s *transcript) source(typeName string, config values) {
	of := s.sources[typeName].ValueType()
	resp, err := s.server.ReadDataSource(s.t.Context(), &tfprotov6.ReadDataSourceRequest{
		TypeName: typeName, Config: s.dynamic(of, value(of, with(config, "cluster", "ns/consul"))),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.log(fmt.Sprintf("data source %v", config), resp.Diagnostics, s.show(of, resp.State))
}

func (s *transcript) dynamic(of tftypes.Type, v tftypes.Value) *tfprotov6.DynamicValue {
	d, err := tfprotov6.NewDynamicValue(of, v)
	if err != nil {
		s.t.Fatal(err)
	}
	return &d
}

func (s *transcript) value(of tftypes.Type, d *tfprotov6.DynamicValue) tftypes.Value {
	if d == nil {
		return tftypes.NewValue(of, nil)
	}
	v, err := d.Unmarshal(of)
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

func (s *transcript) show(of tftypes.Type, d *tfprotov6.DynamicValue) string {
	raw, _ := json.Marshal(plain(s.value(of, d)))
	return string(raw)
}

func (s *transcript) identity(d *tfprotov6.ResourceIdentityData) string {
	if d == nil || d.IdentityData == nil {
		return "no identity"
	}
	of := tftypes.Object{AttributeTypes: map[string]tftypes.Type{"cluster": tftypes.String, "id": tftypes.String}}
	return "identity " + s.show(of, d.IdentityData)
}

func privateState(raw []byte) string {
	var all map[string][]byte
	_ = json.Unmarshal(raw, &all)
	out := "private"
	for _, k := range slices.Sorted(maps.Keys(all)) {
		out += " " + k + "=" + string(all[k])
	}
	return out
}

// proposed merges as Terraform does: what is computed and not configured comes from the state.
func (s *transcript) proposed(typeName string, prior *stored, config tftypes.Value) tftypes.Value {
	var c, p map[string]tftypes.Value
	_ = config.As(&c)
	if prior != nil {
		_ = prior.values.As(&p)
	}
	c = maps.Clone(c)
	for _, a := range s.schema[typeName].Block.Attributes {
		if v, ok := p[a.Name]; ok && a.Computed && c[a.Name].IsNull() {
			c[a.Name] = v
		}
		if a.WriteOnly {
			c[a.Name] = tftypes.NewValue(a.ValueType(), nil)
		}
	}
	return tftypes.NewValue(config.Type(), c)
}

// value builds a value of a type. Missing attributes are null.
func value(of tftypes.Type, v any) tftypes.Value {
	if v == nil {
		return tftypes.NewValue(of, nil)
	}
	switch of := of.(type) {
	case tftypes.Object:
		out := map[string]tftypes.Value{}
		for name, t := range of.AttributeTypes {
			out[name] = value(t, v.(values)[name]) //nolint:forcetypeassert // of a test
		}
		return tftypes.NewValue(of, out)
	case tftypes.Set:
		out := []tftypes.Value{}
		for _, e := range v.([]any) { //nolint:forcetypeassert // of a test
			out = append(out, value(of.ElementType, e))
		}
		return tftypes.NewValue(of, out)
	}
	return tftypes.NewValue(of, v)
}

// plain is the opposite of value, without what is null.
func plain(v tftypes.Value) any {
	switch {
	case v.IsNull():
		return nil
	case !v.IsKnown():
		return "(unknown)"
	}
	switch of := v.Type().(type) {
	case tftypes.Object, tftypes.Map:
		var all map[string]tftypes.Value
		_ = v.As(&all)
		out := values{}
		for k, e := range all {
			if p := plain(e); p != nil {
				out[k] = p
			}
		}
		return out
	case tftypes.Set, tftypes.List:
		var all []tftypes.Value
		_ = v.As(&all)
		out := []any{}
		for _, e := range all {
			out = append(out, plain(e))
		}
		return out
	default:
		if of.Is(tftypes.Bool) {
			var b bool
			_ = v.As(&b)
			return b
		}
		var text string
		_ = v.As(&text)
		return text
	}
}

// onlyObjects is a provider of the ACL objects, already connected.
type onlyObjects struct{ clients *session.Clients }

func (*onlyObjects) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = "consul_k8s"
}
func (*onlyObjects) Schema(context.Context, provider.SchemaRequest, *provider.SchemaResponse) {}
func (p *onlyObjects) Configure(_ context.Context, _ provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	resp.ResourceData, resp.DataSourceData = p.clients, p.clients
}
func (*onlyObjects) DataSources(context.Context) []func() datasource.DataSource {
	return []func() datasource.DataSource{NewPolicyDataSource, NewRoleDataSource, NewTokenDataSource, NewAuthMethodDataSource}
}
func (*onlyObjects) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{
		NewPolicyResource, NewRoleResource, NewTokenResource, NewAuthMethodResource, NewBindingRuleResource,
	}
}

// consulStore answers as Consul's ACL endpoints do, and records the requests.
type consulStore struct {
	mu       sync.Mutex
	objects  map[string][]values // by the name of their list
	requests []string
	made     int
	fails    string // the answer to every request except lists
}

func (s *consulStore) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.requests
	s.requests = nil
	return out
}

// lists are the names of lists, by the name of one object, and the field that identifies one.
var lists = map[string][2]string{
	"policy": {"policies", "ID"}, "role": {"roles", "ID"}, "token": {"tokens", "AccessorID"}, "auth-method": {"auth-methods", "Name"},
	"binding-rule": {"binding-rules", "ID"},
}

func (s *consulStore) find(list, id string) values {
	for _, o := range s.objects[list] {
		if o["ID"] == id || o["AccessorID"] == id || (list == "auth-methods" && o["Name"] == id) {
			return o
		}
	}
	return nil
}

func (s *consulStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	raw, _ := io.ReadAll(r.Body)
	var body values
	_ = json.Unmarshal(raw, &body)
	s.record(r, body)
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/v1/acl/"), "/")
	answer := func(v any) { _ = json.NewEncoder(w).Encode(v) }
	if s.fails == "ACL not found" || (s.fails != "" && r.Method != http.MethodGet && r.URL.Path != "/v1/internal/acl/authorize") {
		http.Error(w, s.fails, http.StatusForbidden)
		return
	}
	if r.URL.Path == "/v1/acl/login" { // the token is valid, and nothing is bound to it
		http.Error(w, "Permission denied", http.StatusForbidden)
		return
	}
	if r.URL.Path == "/v1/internal/acl/authorize" {
		answer([]values{{"Allow": s.fails == ""}})
		return
	}
	for _, of := range lists {
		if parts[0] == of[0] {
			answer(append([]values{}, s.objects[of[0]]...))
			return
		}
	}
	of, known := lists[parts[0]]
	if !known {
		http.Error(w, "no such path", http.StatusBadRequest)
		return
	}
	s.one(w, r, of[0], of[1], parts[1:], body, answer)
}

func (s *consulStore) record(r *http.Request, body values) {
	if !strings.Contains(r.URL.Path, "token") {
		delete(body, "CreateIndex")
		raw, _ := json.Marshal(body)
		s.requests = append(s.requests, r.Method+" "+r.URL.Path+" "+string(raw))
		return
	}
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
}

func (s *consulStore) one(w http.ResponseWriter, r *http.Request, list, key string, rest []string, body values, answer func(any)) {
	var existing values
	if len(rest) == 2 { // by name
		i := slices.IndexFunc(s.objects[list], func(o values) bool { return o["Name"] == rest[1] })
		if i >= 0 {
			existing = s.objects[list][i]
		}
	} else if len(rest) == 1 {
		existing = s.find(list, rest[0])
	}
	switch {
	case r.Method == http.MethodPut && len(rest) == 0:
		if list != "binding-rules" && slices.ContainsFunc(s.objects[list], func(o values) bool {
			return (list != "tokens" && o["Name"] == body["Name"]) || (list == "tokens" && o[key] == body[key])
		}) {
			http.Error(w, "it already exists", http.StatusInternalServerError)
			return
		}
		if key == "ID" {
			s.made++
			body[key] = id(s.made)
		}
		body["Hash"] = "aGFzaA=="
		body["CreateTime"] = "2026-01-01T00:00:00Z"
		s.objects[list] = append(s.objects[list], s.resolve(body))
		answer(body)
	case existing == nil && r.Method == http.MethodPut:
		http.Error(w, "cannot find "+list, http.StatusInternalServerError)
	case existing == nil && list == "tokens" && r.Method == http.MethodGet:
		http.Error(w, "token does not exist: ACL not found", http.StatusForbidden)
	case existing == nil:
		http.Error(w, "not found", http.StatusNotFound)
	case r.Method == http.MethodPut:
		for k, v := range s.resolve(body) {
			existing[k] = v
		}
		existing["Hash"] = "b3RoZXI="
		answer(existing)
	case r.Method == http.MethodDelete:
		s.objects[list] = slices.DeleteFunc(s.objects[list], func(o values) bool { return o[key] == existing[key] })
		answer(true)
	default:
		answer(existing)
	}
}

// resolve fills in the IDs and names of links.
func (s *consulStore) resolve(body values) values {
	for field, list := range map[string]string{"Policies": "policies", "Roles": "roles"} {
		links, _ := body[field].([]any)
		for _, l := range links {
			link, _ := l.(values)
			for _, o := range s.objects[list] {
				if o["ID"] == link["ID"] || (link["Name"] != nil && o["Name"] == link["Name"]) {
					link["ID"], link["Name"] = o["ID"], o["Name"]
				}
			}
		}
	}
	return body
}
