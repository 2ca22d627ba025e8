package lifecycle

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// A Service that somebody created in place of the cluster's does not prevent the deletion of the cluster, and is not
// deleted with it.
func TestWithoutForeign(t *testing.T) {
	t.Parallel()
	own := metav1.ObjectMeta{Name: "consul", Labels: server.OwnerLabels("consul")}
	set := withoutForeign(
		server.Set{ClientService: &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "consul"}}, Config: &corev1.ConfigMap{ObjectMeta: own}},
		"consul",
	)
	if err := foreign(set, "consul"); err != nil || set.ClientService != nil || set.Config == nil {
		t.Errorf("%v is left, %v", set.All(), err)
	}
}
