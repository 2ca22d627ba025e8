package backup_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	corev1 "k8s.io/api/core/v1"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
)

// Jobs work in a namespace that requires more resources than their default, and beside injected sidecars that do not
// end. If Kubernetes refuses their pods, that is reported within seconds. No selector of servers selects them.
func TestAccJobs_inAStricterNamespace(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace, k := acctest.Namespace(t), acctest.Kube(t)
	repository := fmt.Sprintf("url = \"s3:%s/bucket/consul\"", acctest.StartS3(t, namespace))
	putSecret(t, namespace, acctest.Credentials())
	cluster := func(jobs string) string {
		return clusterHCL(namespace, acctest.ConsulVersion, jobs+"labels = { team = \"platform\" }\n  pod_labels = { app = \"consul\" }\n")
	}
	const id, enough = "consul_k8s_cluster.test.id", "jobs = { resources = { requests = { cpu = \"20m\", memory = \"80Mi\" } }, pod_labels " +
		"= { cost = \"low\" } }\n  "
	snapshot := func(more string) string {
		return strings.Replace(snapshotHCL(id, repository), "name       =", more+"\n  name       =", 1)
	}
	end := func() {}
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: cluster("")},
		{
			PreConfig: func() {
				putKeys(t, namespace, "kept", 10)
				_, err := k.CoreV1().LimitRanges(namespace).Create(t.Context(), &corev1.LimitRange{
					ObjectMeta: metav1.ObjectMeta{Name: "strict"},
					Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
						Type: corev1.LimitTypeContainer, Min: corev1.ResourceList{"memory": quantity.MustParse("72Mi")},
					}}},
				}, metav1.CreateOptions{})
				if err != nil {
					t.Fatal(err)
				}
			},
			Config: cluster("") + snapshot(""), ExpectError: acctest.Says("minimum memory usage per Container is 72Mi"),
		},
		{
			PreConfig: func() {
				end = acctest.InjectSidecars(t, namespace, false)
			},
			Config: cluster(enough) + snapshot("") + scheduleHCL(id, repository, "pod_annotations = { note = \"mine\" }"),
			Check: resource.ComposeTestCheckFunc(
				resource.TestCheckResourceAttrSet(address, "last_backup.snapshot"),
				func(*terraform.State) error { return hasSidecar(t, namespace) },
			),
		},
		{Config: cluster(enough) + snapshot("") + scheduleHCL(id, repository, "pod_annotations = { note = \"mine\" }"), PlanOnly: true},
		{
			PreConfig: func() {
				end()
				end = acctest.InjectSidecars(t, namespace, true)
				putKeys(t, namespace, "later", 5)
			},
			Config: cluster(
				enough,
			) + scheduleHCL(
				id,
				repository,
				"pod_annotations = { note = \"mine\" }",
			) + restoreHCL(
				id,
				namespace+"/consul",
				repository,
				`"latest"`,
				"",
			),
			Check: hasKeys(t, namespace, map[string]int{"kept": 10, "later": 0}),
		},
		{ // objects of others do not prevent the destroy
			PreConfig: func() { end() },
			Config:    cluster(enough),
		},
	}})
}

// hasSidecar checks the pod of the Job that proves the schedule: the sidecar runs in it, its metadata is as declared,
// and it does not count as a server.
func hasSidecar(t *testing.T, namespace string) error {
	t.Helper()
	k := acctest.Kube(t)
	pods, err := k.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: restic.LabelTask + "=" + restic.TaskBackup})
	if err != nil || len(pods.Items) != 1 {
		return fmt.Errorf("there are %d pods of the backup: %w", len(pods.Items), err)
	}
	p := pods.Items[0]
	if !slices.ContainsFunc(
		p.Status.ContainerStatuses,
		func(s corev1.ContainerStatus) bool { return s.Name == "mesh-proxy" && s.State.Running != nil },
	) {
		return fmt.Errorf("no sidecar runs in %s: %+v", p.Name, p.Status.ContainerStatuses)
	}
	for name, want := range map[string]string{"team": "platform", "cost": "low", "app": "", "sidecar.istio.io/inject": "false"} {
		if p.Labels[name] != want {
			return fmt.Errorf("label %s of %s is %q, want %q", name, p.Name, p.Labels[name], want)
		}
	}
	if p.Annotations["note"] != "mine" || p.Annotations["linkerd.io/inject"] != "disabled" {
		return fmt.Errorf("the annotations of %s are %v", p.Name, p.Annotations)
	}
	if got := p.Spec.InitContainers[0].Resources.Requests.Memory().String(); got != "80Mi" {
		return fmt.Errorf("it asks for %s", got)
	}
	var selected []string
	servers, err := k.CoreV1().Pods(namespace).List(context.WithoutCancel(t.Context()), metav1.ListOptions{LabelSelector: "app=consul"})
	if err != nil {
		return err
	}
	for i := range servers.Items {
		selected = append(selected, servers.Items[i].Name)
	}
	if !slices.Equal(selected, []string{"consul-server-0"}) {
		return fmt.Errorf("the label of the servers selects %v", selected)
	}
	return nil
}
