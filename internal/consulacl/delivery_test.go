package consulacl

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	testclient "k8s.io/client-go/testing"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
)

func TestTarget_Render(t *testing.T) {
	const accessorID, secretID = "8f8b1e3a-5d1c-4f0e-9c64-3f1d2a7b9e55", "5f6b3f8e-4d0a-4dd1-8e4e-6f3f2b1a9c77"
	for template, want := range map[string]string{
		"":                                secretID,
		`{"token": "{{.SecretID}}"}`:      `{"token": "` + secretID + `"}`,
		"{{.AccessorID}} {{.SecretID}}\n": accessorID + " " + secretID + "\n",
	} {
		got, err := Target{Template: template}.Render(accessorID, secretID)
		if err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", template, got, err)
		}
	}
}

// An error of a template may quote its value, or a part of it.
func TestTarget_Render_anErrorHasNothingOfTheSecretID(t *testing.T) {
	const secretID = "5f6b3f8e-4d0a-4dd1-8e4e-6f3f2b1a9c77"
	for _, template := range []string{
		"{{range .SecretID}}{{end}}", "{{range slice .SecretID 0 13}}{{end}}", "{{range printf \"%.18s\" .SecretID}}{{end}}",
		"{{range printf \"%x\" .SecretID}}{{end}}",
		"{{index .SecretID .SecretID}}", "{{.SecretID.Name}}", "{{call .SecretID}}", "{{.Nothing}}", "{{",
		`{{if eq (slice .SecretID 0 1) "5"}}{{range .SecretID}}{{end}}{{end}}`,
	} {
		out, err := Target{Template: template}.Render("accessor", secretID)
		if err == nil {
			t.Errorf("%s: it is %q", template, out)
			continue
		}
		for _, part := range []string{secretID[:8], "4dd1", "6f3f2b1a9c77", "3566366233663865"} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q is in %q", template, part, err)
			}
		}
	}
}

// A namespace that is gone has taken its Secrets with it, and the Roles that grant access to them. Nothing is
// delivered to it, and nothing has to be withdrawn from it.
func TestDeliveries_inANamespaceThatIsGone(t *testing.T) {
	t.Parallel()
	forbidden := func(verb, resource string) func(*fake.Clientset) {
		return func(k *fake.Clientset) {
			k.PrependReactor(verb, resource, func(testclient.Action) (bool, runtime.Object, error) {
				return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: resource}, "consul-token", errors.New("no Role says so"))
			})
		}
	}
	for name, tt := range map[string]struct {
		namespace *corev1.Namespace // nil: the namespace does not exist
		answers   []func(*fake.Clientset)
		missing   bool
	}{
		"it does not exist": {nil, nil, true},
		"its Roles are gone with it": {nil, []func(*fake.Clientset){
			forbidden("get", "secrets"), forbidden("list", "secrets"), forbidden("patch", "secrets"),
		}, true},
		"it is being deleted": {&corev1.Namespace{
			ObjectMeta: metav1.ObjectMeta{Name: "app", DeletionTimestamp: new(metav1.Now()), Finalizers: []string{"kubernetes"}},
		}, []func(*fake.Clientset){forbidden("patch", "secrets")}, true},
		"it exists": {&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "app"}}, nil, false},
		"it exists, and may not be written": {&corev1.Namespace{
			ObjectMeta: metav1.ObjectMeta{Name: "app"},
		}, []func(*fake.Clientset){forbidden("patch", "secrets")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := fake.NewClientset()
			if tt.namespace != nil {
				if err := k.Tracker().Add(tt.namespace); err != nil {
					t.Fatal(err)
				}
			} else {
				k.PrependReactor("patch", "secrets", func(testclient.Action) (bool, runtime.Object, error) {
					return true, nil, apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "app")
				})
			}
			for _, f := range tt.answers {
				f(k)
			}
			d := newDeliveries(consul.NewConnector(&kube.Client{Interface: k}).Cluster("ns", "consul"))
			target := Target{Namespace: "app", Name: "consul-token", Key: "token"}
			if got := d.NamespaceMissing(t.Context(), "app"); got != tt.missing {
				t.Errorf("missing: %t", got)
			}
			err := d.Deliver(t.Context(), target, "a", "secret", "")
			if errors.As(err, new(*NamespaceError)) != tt.missing {
				t.Errorf("delivering: %v", err)
			}
			if tt.missing {
				if delivered, err := d.Delivered(t.Context(), target, "a", "secret"); delivered || err != nil {
					t.Errorf("delivered: %t, %v", delivered, err)
				}
				if err := d.Withdraw(t.Context(), target, "a"); err != nil {
					t.Errorf("withdrawing: %v", err)
				}
			}
		})
	}
}

// An import finds the Secrets of a token, with what was declared of them.
func TestDeliveries_Find(t *testing.T) {
	t.Parallel()
	const accessorID, secretID = "8f8b1e3a-5d1c-4f0e-9c64-3f1d2a7b9e55", "5f6b3f8e-4d0a-4dd1-8e4e-6f3f2b1a9c77"
	k := fake.NewClientset()
	d := newDeliveries(consul.NewConnector(&kube.Client{Interface: k}).Cluster("ns", "consul"))
	all := []Target{
		{
			Namespace: "app",
			Name:      "file",
			Key:       "config.json",
			Template:  "{\"token\": \"{{ .SecretID }}\", \"of\": \"{{.AccessorID}}\", \"x\": \"{{\"{{\"}}\"}",
			Labels:    map[string]string{"team": "web"},
			Declared:  `{"expirationTTL":"8h"}`,
		},
		{Namespace: "ns", Name: "plain", Key: "token", Type: "example.com/x"},
	}
	for _, target := range all {
		if err := d.Deliver(t.Context(), target, accessorID, secretID, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Deliver(t.Context(), Target{Namespace: "ns", Name: "other", Key: "token"}, "another", secretID, ""); err != nil {
		t.Fatal(err)
	}
	// Unlike the API server, the fake does not record field managers.
	s, err := k.CoreV1().Secrets("app").Get(t.Context(), "file", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.Labels["theirs"] = "x"
	s.ManagedFields = []metav1.ManagedFieldsEntry{
		{
			Manager:  all[0].manager(),
			FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{"f:team":{},"f:app.kubernetes.io/managed-by":{}}}}`),
		},
	}
	if _, err := k.CoreV1().Secrets("app").Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	found, complete, err := d.Find(t.Context(), accessorID, secretID)
	if err != nil || !complete || len(found) != len(all) {
		t.Fatalf("%+v, %t, %v", found, complete, err)
	}
	for i, f := range found {
		if !f.Same(all[i]) || f.Declared != all[i].Declared {
			t.Errorf("got %+v, want %+v", f, all[i])
		}
		value, err := f.Render(accessorID, secretID)
		want, _ := all[i].Render(accessorID, secretID)
		if err != nil || string(value) != string(want) {
			t.Errorf("%q renders to %q, %v", f.Template, value, err)
		}
	}
}
