package lifecycle

import (
	"context"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Existing objects of a cluster follow a change of its labels: they get those that are declared, lose those that no
// longer are, and keep those of others. Objects of somebody else are left alone.
func TestRelabel(t *testing.T) {
	t.Parallel()
	own := func(name string) metav1.ObjectMeta {
		l := server.OwnerLabels("consul")
		l["old"], l["theirs"] = "1", "2"
		return metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: l}
	}
	foreign := metav1.ObjectMeta{Namespace: "ns", Name: "foreign", Labels: map[string]string{"old": "1"}}
	set := fake.NewClientset(
		&corev1.Secret{ObjectMeta: own("consul-tls")}, &corev1.Secret{ObjectMeta: foreign},
		&corev1.ConfigMap{ObjectMeta: own(server.CAName("consul"))}, &corev1.PersistentVolumeClaim{ObjectMeta: own("data-consul-server-0")},
		&coordinationv1.Lease{ObjectMeta: own(server.LeaseName("consul"))},
	)
	k := &kube.Client{Interface: set}
	d := Deployment{Kube: k, Consul: consul.NewConnector(k).Cluster("ns", "consul").WithLabels(map[string]string{"new": "3"})}
	if err := (objects{d}).relabel(t.Context(), map[string]string{"old": "1"}, map[string]string{"new": "3"}); err != nil {
		t.Fatal(err)
	}
	ctx, options := t.Context(), metav1.GetOptions{}
	secret, _ := set.CoreV1().Secrets("ns").Get(ctx, "consul-tls", options)
	ca, _ := set.CoreV1().ConfigMaps("ns").Get(ctx, server.CAName("consul"), options)
	claim, _ := set.CoreV1().PersistentVolumeClaims("ns").Get(ctx, "data-consul-server-0", options)
	lease, _ := set.CoordinationV1().Leases("ns").Get(ctx, server.LeaseName("consul"), options)
	for what, labels := range map[string]map[string]string{"Secret": secret.Labels, "ConfigMap": ca.Labels, "claim": claim.Labels} {
		if _, kept := labels["old"]; kept || labels["new"] != "3" || labels["theirs"] != "2" {
			t.Errorf("%s has %v", what, labels)
		}
	}
	if _, kept := lease.Labels["old"]; kept || lease.Labels["theirs"] != "2" { // it gets the new ones when it is acquired
		t.Errorf("the Lease has %v", lease.Labels)
	}
	other, _ := set.CoreV1().Secrets("ns").Get(ctx, "foreign", options)
	if len(other.Labels) != 1 {
		t.Errorf("a Secret of somebody else has %v", other.Labels)
	}
}

// The Lease is created with the labels of the cluster.
func TestExclusively_labelsTheLease(t *testing.T) {
	t.Parallel()
	labels := server.OwnerLabels("consul")
	labels["team"] = "platform"
	set := fake.NewClientset(
		&appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: server.StatefulSetName("consul"), Labels: labels}},
	)
	k := &kube.Client{Interface: set}
	d := Deployment{Kube: k, Consul: consul.NewConnector(k).Cluster("ns", "consul")}
	if _, err := (lease{d}).withLease(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
	lease, err := set.CoordinationV1().Leases("ns").Get(t.Context(), server.LeaseName("consul"), metav1.GetOptions{})
	if err != nil || lease.Labels["team"] != "platform" {
		t.Errorf("the Lease has %v (%v)", lease.Labels, err)
	}
}
