package restic

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// A schedule can be destroyed when the configuration of the servers, or the cluster, is gone. As long as its token
// may exist, its CronJob is kept, which shows the schedule to the next apply.
func TestSchedule_Delete(t *testing.T) {
	t.Parallel()
	cronJob := func(name string) *batchv1.CronJob {
		return &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: Labels("consul", "hourly")}}
	}
	backup := CronJobName("consul", "hourly")
	k := fake.NewClientset(cronJob(backup), cronJob(backup+"-prune"), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: server.StatefulSetName("consul"), Labels: server.OwnerLabels("consul")},
	})
	client := &kube.Client{Interface: k}
	s := Schedule{Kube: client, Consul: consul.NewConnector(client).Cluster("ns", "consul"), Name: "hourly"}
	left := func() (names []string) {
		list, err := k.BatchV1().CronJobs("ns").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			names = append(names, list.Items[i].Name)
		}
		return names
	}
	// No ConfigMap says whether ACLs are on, and there is no server to ask.
	if err := s.Delete(t.Context()); err == nil || !slices.Equal(left(), []string{backup}) {
		t.Errorf("while it is not known whether the token exists: %v, left: %q", err, left())
	}
	if err := k.AppsV1().StatefulSets("ns").Delete(t.Context(), server.StatefulSetName("consul"), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Delete(t.Context()); err != nil || len(left()) > 0 {
			t.Errorf("without a cluster: %v, left: %q", err, left())
		}
	}
}
