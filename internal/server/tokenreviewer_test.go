package server_test

import (
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// The names are valid in Kubernetes for every name of an auth method that Consul accepts, and two auth methods never
// share one.
func TestTokenReviewer_namesAreValidAndDiffer(t *testing.T) {
	long := strings.Repeat("x", 128)
	seen := map[string]string{}
	for _, method := range []string{"pods", "Pods", "pods_", "po_ds", "po-ds", "_", "-", "__", long, long[1:] + "y"} {
		for _, cluster := range []string{"consul", strings.Repeat("c", 40)} {
			name := server.TokenReviewer{Namespace: "n", Cluster: cluster, AuthMethod: method}.AccountName()
			if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
				t.Errorf("%q of %s: %q", method, cluster, problems)
			}
			if other, ok := seen[name]; ok {
				t.Errorf("%q and %q are both %s", method, other, name)
			}
			seen[name] = method
		}
	}
	if got := (server.TokenReviewer{Namespace: "n", Cluster: "consul", AuthMethod: "pods"}).AccountName(); got != "consul-auth-pods" {
		t.Errorf("a plain name is written as %q", got)
	}
	a := server.TokenReviewer{Namespace: "a-b", Cluster: "c", AuthMethod: "m"}
	b := server.TokenReviewer{Namespace: "a", Cluster: "b-c", AuthMethod: "m"}
	if a.RoleName() == b.RoleName() {
		t.Errorf("clusters of two namespaces share the ClusterRole %s", a.RoleName())
	}
}

func TestTokenReviewer_driftIsNoticed(t *testing.T) {
	r := server.TokenReviewer{Namespace: "n", Cluster: "consul", AuthMethod: "pods"}
	complete := func() server.TokenReviewerObjects {
		o := r.Objects()
		o.ServiceAccount.UID = types.UID("1")
		o.Secret.Annotations[corev1.ServiceAccountUIDKey] = "1"
		o.Secret.Data = map[string][]byte{corev1.ServiceAccountTokenKey: []byte("t"), corev1.ServiceAccountRootCAKey: []byte("c")}
		return o
	}
	role := "terraform-provider-consul-k8s:n:consul:pods"
	for name, c := range map[string]struct {
		change func(*server.TokenReviewerObjects)
		want   []string
	}{
		"nothing": {func(*server.TokenReviewerObjects) {}, nil},
		"no ServiceAccount": {func(o *server.TokenReviewerObjects) { o.ServiceAccount = nil }, []string{
			"ServiceAccount consul-auth-pods: missing", "Secret consul-auth-pods: the token",
		}},
		"another account": {func(o *server.TokenReviewerObjects) { o.ServiceAccount.UID = "2" }, []string{
			"Secret consul-auth-pods: the token",
		}},
		"no Secret":    {func(o *server.TokenReviewerObjects) { o.Secret = nil }, []string{"Secret consul-auth-pods: missing"}},
		"no token yet": {func(o *server.TokenReviewerObjects) { o.Secret.Data = nil }, []string{"Secret consul-auth-pods: the token"}},
		"no role":      {func(o *server.TokenReviewerObjects) { o.Role = nil }, []string{"ClusterRole " + role + ": missing"}},
		"other rules": {func(o *server.TokenReviewerObjects) { o.Role.Rules[1].Verbs = []string{"*"} }, []string{
			"ClusterRole " + role + ": rules",
		}},
		"no binding": {func(o *server.TokenReviewerObjects) { o.Binding = nil }, []string{"ClusterRoleBinding " + role + ": missing"}},
		"binding of another": {func(o *server.TokenReviewerObjects) { o.Binding.RoleRef.Name = "cluster-admin" }, []string{
			"ClusterRoleBinding " + role + ": roleRef",
		}},
		"another account has rights": {func(o *server.TokenReviewerObjects) {
			o.Binding.Subjects = append(o.Binding.Subjects, rbacv1.Subject{Kind: "User", Name: "u"})
		}, []string{"ClusterRoleBinding " + role + ": subjects"}},
		"annotated by somebody": {func(o *server.TokenReviewerObjects) { o.Role.Annotations["a"] = "b" }, nil},
	} {
		live := complete()
		c.change(&live)
		if got := r.Drift(live); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// Objects with the names but without the marks belong to somebody else.
func TestTokenReviewer_ownsOnlyItsOwn(t *testing.T) {
	r := server.TokenReviewer{Namespace: "n", Cluster: "consul", AuthMethod: "pods"}
	if got := r.Foreign(r.Objects()); got != nil {
		t.Errorf("%q are not its own", got)
	}
	other := server.TokenReviewer{Namespace: "n", Cluster: "consul", AuthMethod: "other"}
	if got := r.Foreign(other.Objects()); len(got) != 4 {
		t.Errorf("it owns another auth method's: only %q are foreign", got)
	}
	unmarked := r.Objects()
	unmarked.Role.Labels = nil
	if got := r.Foreign(unmarked); !reflect.DeepEqual(got, []string{"ClusterRole " + r.RoleName()}) {
		t.Errorf("foreign are %q", got)
	}
}
