package acl

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/consul/api"
	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	testclient "k8s.io/client-go/testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/session"
)

// tokenStore answers requests for tokens as Consul does.
type tokenStore struct {
	mu     sync.Mutex
	tokens map[string]api.ACLToken
}

func (s *tokenStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := path.Base(r.URL.Path)
	token, found := s.tokens[id]
	var reply any = []any{}
	switch {
	case r.URL.Path == "/v1/acl/tokens":
		all := []api.ACLToken{}
		for _, t := range s.tokens {
			all = append(all, t)
		}
		reply = all
	case !strings.HasPrefix(r.URL.Path, "/v1/acl/token"):
	case r.Method == http.MethodPut:
		_ = json.NewDecoder(r.Body).Decode(&token)
		s.tokens[token.AccessorID] = token
		reply = token
	case !found && r.Method == http.MethodDelete:
		http.Error(w, "Cannot find token to delete", http.StatusNotFound)
		return
	case !found:
		http.Error(w, "token does not exist: ACL not found", http.StatusForbidden)
		return
	case r.Method == http.MethodDelete:
		delete(s.tokens, id)
		reply = true
	default:
		reply = token
	}
	_ = json.NewEncoder(w).Encode(reply)
}

const accessor, secret = "8f8b1e3a-5d1c-4f0e-9c64-3f1d2a7b9e55", "5f6b3f8e-4d0a-4dd1-8e4e-6f3f2b1a9c77"

// fakeCluster is a cluster of one server with one token, and another namespace "app".
func fakeCluster(t *testing.T) (*TokenResource, *consulacl.ACL, *fake.Clientset, *tokenStore) {
	t.Helper()
	labels := server.OwnerLabels("consul")
	labels[server.LabelComponent] = consulacl.ComponentBootstrap
	k := fake.NewClientset(
		&appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: server.StatefulSetName("consul")}},
		&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: server.PodName("consul", 0), UID: "pod", Labels: server.SelectorLabels("consul")},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning},
		},
		&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Namespace:   "ns",
				Name:        "bootstrap",
				Labels:      labels,
				Annotations: map[string]string{server.ManagedBy + "/token-key": "token"},
			},
			Data: map[string][]byte{"token": []byte("management")},
		},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "app"}},
	)
	// As the API server does.
	k.PrependReactor("patch", "secrets", func(a testclient.Action) (bool, runtime.Object, error) {
		_, err := k.Tracker().Get(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}, "", a.GetNamespace())
		if err != nil {
			return true, nil, apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, a.GetNamespace())
		}
		return false, nil, nil
	})
	store := &tokenStore{tokens: map[string]api.ACLToken{accessor: {AccessorID: accessor, SecretID: secret}}}
	s := httptest.NewServer(store)
	t.Cleanup(s.Close)
	client := &kube.Client{Interface: k, Dial: func(ctx context.Context, _, _ string, _ int) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", s.Listener.Addr().String())
	}}
	r := &TokenResource{}
	r.object = object{kind: "token", typeName: "consul_k8s_token", clients: session.ClientsOf(client)}
	a := r.forPlan(t.Context(), types.StringValue("ns/consul"))
	return r, a, k, store
}

// A destroy that may not change the Secret keeps the token: it is in the state, and the next destroy completes.
func TestToken_theNextDestroyCompletesAFailedOne(t *testing.T) {
	t.Parallel()
	r, a, k, store := fakeCluster(t)
	target := consulacl.Target{Namespace: "app", Name: "x", Key: "token"}
	if err := a.Deliveries.Deliver(t.Context(), target, accessor, secret, ""); err != nil {
		t.Fatal(err)
	}
	forbidden := true
	k.PrependReactor("delete", "secrets", func(testclient.Action) (bool, runtime.Object, error) {
		return forbidden, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "x", errors.New("no Role says so"))
	})
	if err := r.remove(t.Context(), a, []consulacl.Target{target}, accessor); err == nil || len(store.tokens) != 1 {
		t.Errorf("%v, and there are %d tokens", err, len(store.tokens))
	}
	forbidden = false
	for range 2 { // once more, when everything is gone
		err := r.remove(t.Context(), a, []consulacl.Target{target}, accessor)
		_, getErr := k.CoreV1().Secrets("app").Get(t.Context(), "x", metav1.GetOptions{})
		if err != nil || len(store.tokens) != 0 || !apierrors.IsNotFound(getErr) {
			t.Errorf("%v, there are %d tokens, the Secret: %v", err, len(store.tokens), getErr)
		}
	}
}

// A namespace that is gone does not prevent the delivery to other Secrets, and a plan is refused only if the token is
// new.
func TestToken_aNamespaceThatIsGone(t *testing.T) {
	t.Parallel()
	r, a, k, _ := fakeCluster(t)
	gone, there := consulacl.Target{Namespace: "gone", Name: "x", Key: "token"}, consulacl.Target{Namespace: "app", Name: "y", Key: "token"}
	missing, err := r.deliver(t.Context(), a, []consulacl.Target{gone, there}, api.ACLToken{AccessorID: accessor, SecretID: secret}, "")
	if err != nil || len(missing) != 1 || missing[0].String() != gone.String() {
		t.Errorf("missing are %v, %v", missing, err)
	}
	if _, err := k.CoreV1().Secrets("app").Get(t.Context(), "y", metav1.GetOptions{}); err != nil {
		t.Errorf("the other one was not delivered: %v", err)
	}
	state := newTokenModel(t, "gone")
	for name, tt := range map[string]struct {
		state tokenModel
		want  string
	}{
		"it was declared before": {state, "The namespace of a Secret is gone"},
		"it is new":              {tokenModel{objectModel: objectModel{Cluster: types.StringValue("ns/consul")}}, "There is no such namespace"},
	} {
		var diags diag.Diagnostics
		r.checkTargets(t.Context(), a, []consulacl.Target{gone}, tt.state, &diags)
		if diags.HasError() || len(diags) != 1 || diags[0].Summary() != tt.want {
			t.Errorf("%s: %v", name, diags)
		}
		before, _ := tt.state.targets(t.Context(), &diags)
		if err := refuseMissing(
			t.Context(), a, []consulacl.Target{gone, there}, before,
		); (err != nil) != (tt.want == "There is no such namespace") {
			t.Errorf("%s: the apply: %v", name, err)
		}
	}
	r.clients.Claims.PlanNamespace("gone") // by a cluster with create_namespace
	var diags diag.Diagnostics
	if r.checkTargets(t.Context(), a, []consulacl.Target{gone}, tokenModel{}, &diags); len(diags) > 0 {
		t.Errorf("planned to be created: %v", diags)
	}
}

// A Secret that somebody else creates in place of a delivered one is drift of the token. One in place of a new target
// is refused.
func TestToken_aSecretThatIsTaken(t *testing.T) {
	t.Parallel()
	r, a, k, _ := fakeCluster(t)
	theirs := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "app", Name: "x"}}
	if err := k.Tracker().Add(theirs); err != nil {
		t.Fatal(err)
	}
	target := consulacl.Target{Namespace: "app", Name: "x", Key: "token"}
	undeclared := tokenModel{objectModel: objectModel{Cluster: types.StringValue("ns/consul")}}
	for want, state := range map[bool]tokenModel{true: undeclared, false: newTokenModel(t, "app")} {
		var diags diag.Diagnostics
		r.checkTargets(t.Context(), a, []consulacl.Target{target}, state, &diags)
		if len(diags) != 1 || diags.HasError() != want {
			t.Errorf("%v", diags)
		}
	}
}

// newTokenModel is a token that is delivered to the Secret "x" of a namespace.
func newTokenModel(t *testing.T, namespace string) tokenModel {
	t.Helper()
	var resp resource.SchemaResponse
	(&TokenResource{}).Schema(t.Context(), resource.SchemaRequest{}, &resp)
	object := func(name string) map[string]tfattr.Type {
		o, ok := resp.Schema.Attributes[name].GetType().(types.ObjectType)
		if !ok {
			t.Fatalf("%s is no object", name)
		}
		return o.AttrTypes
	}
	m := tokenModel{
		objectModel: objectModel{Cluster: types.StringValue("ns/consul")},
		Secret:      types.ObjectNull(object("secret")), Rotation: types.ObjectNull(object("rotation")),
		Secrets: types.SetNull(types.ObjectType{AttrTypes: object("secret")}),
	}
	if namespace != "" {
		m.Secret = types.ObjectValueMust(object("secret"), map[string]tfattr.Value{
			"namespace": types.StringValue(namespace), "name": types.StringValue("x"), "key": types.StringNull(),
			"template": types.StringNull(), "type": types.StringNull(), "labels": types.MapNull(types.StringType),
		})
	}
	return m
}

// An import finds what was declared, and a configuration that leaves attributes at their defaults matches it.
func TestToken_import(t *testing.T) {
	t.Parallel()
	declared := newTokenModel(t, "ns")
	declared.ExpirationTTL = types.StringValue("8h")
	declared.Rotation = types.ObjectValueMust(declared.Rotation.AttributeTypes(t.Context()), map[string]tfattr.Value{
		"trigger": types.StringValue("1"), "after": types.StringNull(), "grace_period": types.StringValue("5m"),
	})
	var diags diag.Diagnostics
	targets, known := declared.targets(t.Context(), &diags)
	if !known || len(targets) != 1 {
		t.Fatalf("%v, %t", targets, known)
	}
	imported := newTokenModel(t, "")
	imported.fromFound(t.Context(), []consulacl.Found{{Target: targets[0]}}, &diags)
	if diags.HasError() || !imported.Rotation.Equal(declared.Rotation) || !imported.ExpirationTTL.Equal(declared.ExpirationTTL) ||
		!imported.Secret.Equal(declared.Secret) {
		t.Errorf("%v: %v instead of %v", diags, imported, declared)
	}
	written := newTokenModel(t, "ns")
	attributes := written.Secret.Attributes()
	attributes["namespace"], attributes["key"] = types.StringNull(), types.StringValue("token")
	written.Secret = types.ObjectValueMust(written.Secret.AttributeTypes(t.Context()), attributes)
	if written.keepTargets(t.Context(), imported, &diags); !written.Secret.Equal(imported.Secret) {
		t.Errorf("%v is not kept", written.Secret)
	}
	other := newTokenModel(t, "app")
	if other.keepTargets(t.Context(), imported, &diags); other.Secret.Equal(imported.Secret) {
		t.Error("another Secret is not seen")
	}
	two := newTokenModel(t, "")
	two.fromFound(
		t.Context(),
		[]consulacl.Found{{Target: targets[0]}, {Target: consulacl.Target{Namespace: "app", Name: "x", Key: "other"}}},
		&diags,
	)
	if again, _ := two.targets(t.Context(), &diags); diags.HasError() || !two.Secret.IsNull() || len(again) != 2 {
		t.Errorf("%v: %v", diags, again)
	}
}

// A policy that was declared before and is gone is drift. One that never existed is refused.
func TestCheckLinks(t *testing.T) {
	t.Parallel()
	o := object{kind: "token", clients: session.NewClients()}
	set := types.SetValueMust(types.StringType, []tfattr.Value{types.StringValue("a")})
	for name, tt := range map[string]struct {
		known           map[string]string
		declared        []string
		warnings, error int
	}{
		"it is there":      {map[string]string{"a": "id"}, nil, 0, 0},
		"it is gone":       {nil, []string{"a"}, 1, 0},
		"it is misspelled": {nil, []string{"b"}, 0, 1},
		"nothing is known": {nil, nil, 0, 1},
	} {
		var diags diag.Diagnostics
		o.checkLinks(t.Context(), "policy", "policies", tt.known, types.StringValue("ns/consul"), set, tt.declared, &diags)
		if diags.WarningsCount() != tt.warnings || diags.ErrorsCount() != tt.error {
			t.Errorf("%s: %v", name, diags)
		}
	}
}

// Terraform plans a change again when it applies it, in a run without refresh. Its warnings were already printed.
func TestWarnOnce(t *testing.T) {
	t.Parallel()
	o := object{kind: "token", clients: session.NewClients()}
	cluster := types.StringValue("ns/consul")
	o.clients.Claims.MarkRead(claimOf("token", "ns/consul", "read"))
	for id, want := range map[string]int{"read": 2, "": 2, "planned once more": 1} {
		var diags diag.Diagnostics
		diags.AddWarning("a", "b")
		diags.AddError("c", "d")
		if o.warnOnce(cluster, types.StringValue(id), &diags); len(diags) != want {
			t.Errorf("%q: %v", id, diags)
		}
	}
}
