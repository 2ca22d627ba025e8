package consulacl

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// A Secret of somebody else is used or refused at once, and the refusal says how to fix it.
func TestCheckSecret(t *testing.T) {
	t.Parallel()
	const token = "5f6b3f8e-4d0a-4dd1-8e4e-6f3f2b1a9c77"
	marked := func(s *corev1.Secret) {
		s.Labels = server.OwnerLabels("consul")
		s.Labels[server.LabelComponent] = ComponentBootstrap
		s.Annotations = map[string]string{annotationKey: "token"}
	}
	holds := func(value string) func(*corev1.Secret) {
		return func(s *corev1.Secret) { s.Data = map[string][]byte{"token": []byte(value)} }
	}
	for name, tt := range map[string]struct {
		make []func(*corev1.Secret) // nil: the Secret does not exist
		ref  SecretRef
		want string // in the refusal
	}{
		"no Secret":             {nil, SecretRef{"mine", "token"}, ""},
		"a label and a token":   {[]func(*corev1.Secret){marked, holds(token)}, SecretRef{"mine", "token"}, ""},
		"a label, but no token": {[]func(*corev1.Secret){marked}, SecretRef{"mine", "token"}, ""},
		"no label": {[]func(*corev1.Secret){holds(token)}, SecretRef{"mine", "token"}, "kubectl label secret --namespace ns " +
			"mine app.kubernetes.io/component=acl-bootstrap"},
		"in another Secret": {[]func(*corev1.Secret){marked, holds(token)}, SecretRef{"other", "token"}, `is in key "token" of Secret mine`},
		"in another key":    {[]func(*corev1.Secret){marked, holds(token)}, SecretRef{"mine", "key"}, `not in key "key" of Secret mine`},
		"not a token":       {[]func(*corev1.Secret){marked, holds("hunter2")}, SecretRef{"mine", "token"}, "does not hold a UUID"},
	} {
		k := fake.NewClientset()
		if tt.make != nil {
			s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "mine"}}
			for _, f := range tt.make {
				f(s)
			}
			if err := k.Tracker().Add(s); err != nil {
				t.Fatal(err)
			}
		}
		c := consul.NewConnector(&kube.Client{Interface: k}).Cluster("ns", "consul")
		err := CheckSecret(t.Context(), c, tt.ref)
		var refused *SecretError
		if errors.As(err, &refused) != (tt.want != "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil || strings.Contains(tt.want, "UUID") {
			continue
		}
		// An apply does not wait if waiting cannot change the result.
		if _, err := PrepareSecret(t.Context(), c, tt.ref, false); !errors.As(err, &refused) || isTransient(err) {
			t.Errorf("%s: the apply: %v", name, err)
		}
	}
}
