package backup_test

import (
	"context"
	"fmt"
	"regexp"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

// regexpUser matches the output of a server that runs as declared, in its own process namespace.
var regexpUser = regexp.MustCompile(`^2000:3000 [0-9]+ sh prepared single\n$`)

// requireLabel creates a policy that refuses every object without a label in a namespace.
func requireLabel(t *testing.T, namespace, label string) {
	t.Helper()
	k, ctx := acctest.Kube(t), context.WithoutCancel(t.Context())
	policies := k.AdmissionregistrationV1().ValidatingAdmissionPolicies()
	bindings := k.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
	rule := func(group string, resources ...string) admissionv1.NamedRuleWithOperations {
		return admissionv1.NamedRuleWithOperations{RuleWithOperations: admissionv1.RuleWithOperations{
			Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
			Rule:       admissionv1.Rule{APIGroups: []string{group}, APIVersions: []string{"v1"}, Resources: resources},
		}}
	}
	name := "requires-a-label." + namespace
	t.Cleanup(func() {
		_ = bindings.Delete(ctx, name, metav1.DeleteOptions{})
		_ = policies.Delete(ctx, name, metav1.DeleteOptions{})
	})
	_, err := policies.Create(ctx, &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{
				rule("", "secrets", "configmaps", "serviceaccounts", "services", "persistentvolumeclaims"),
				rule(
					"apps",
					"statefulsets",
				), rule("batch", "jobs", "cronjobs"), rule("policy", "poddisruptionbudgets"), rule("coordination.k8s.io", "leases"),
			}},
			MatchConditions: []admissionv1.MatchCondition{
				{Name: "not-of-kubernetes", Expression: `!(object.metadata.name in ["kube-root-ca.crt", "default"])`},
			},
			Validations: []admissionv1.Validation{{
				Expression: fmt.Sprintf(
					"has(object.metadata.labels) && %q in object.metadata.labels",
					label,
				), Message: "the label " + label + " is required",
			}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = bindings.Create(ctx, &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
			MatchResources: &admissionv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	acctest.Wait(t, "the policy to be in force", func(ctx context.Context) (string, error) {
		probe := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "without-a-label"}}
		if _, err := k.CoreV1().ConfigMaps(namespace).Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err == nil {
			return "it accepts everything", nil
		}
		return "", nil
	})
}

// In a namespace whose policy requires a label, a cluster with all of its objects works with another user, without a
// shared process namespace, and with extra containers. Its labels can be changed without a restart.
func TestAccLabels_reachEveryObject(t *testing.T) {
	acctest.PreCheck(t)
	t.Parallel()
	namespace := acctest.Namespace(t)
	acctest.ClaimForBackups(t, namespace)
	claims := acctest.Kube(t).CoreV1().PersistentVolumeClaims(namespace) // the scheduler changes it
	if _, err := claims.Patch(
		t.Context(), "backups", types.MergePatchType, []byte(`{"metadata":{"labels":{"team":"platform"}}}`), metav1.PatchOptions{},
	); err != nil {
		t.Fatal(err)
	}
	requireLabel(t, namespace, "team")
	hcl := func(labels string) string {
		return clusterHCL(namespace, acctest.ConsulVersion, labels+`
  tls    = { enabled = true }
  gossip = { enabled = true }
  acl    = { enabled = true }

  security_context        = { run_as_user = 2000, run_as_group = 3000, fs_group = 3000 }
  share_process_namespace = false
  image_pull_secrets      = ["does-not-exist"]
  service_account         = { annotations = { "example.com/role" = "consul" } }
  extra_pod = jsonencode({
    volumes      = [{ name = "shared", emptyDir = {} }]
    env          = [{ name = "GOTRACEBACK", value = "single" }]
    volumeMounts = [{ name = "shared", mountPath = "/shared" }]
    initContainers = [{
      name = "prepare", image = "docker.io/hashicorp/consul:`+acctest.ConsulVersion+`", command = ["/bin/sh", "-c", "echo prepared >/shared/file"]
      volumeMounts = [{ name = "shared", mountPath = "/shared" }], securityContext = { allowPrivilegeEscalation = false, capabilities = { drop = ["ALL"] } }
    }]
    containers = [{
      name = "sidecar", image = "docker.io/hashicorp/consul:`+acctest.ConsulVersion+`", command = ["/bin/sh", "-c", "trap exit TERM; while :; do sleep 1 & wait; done"]
      volumeMounts = [{ name = "shared", mountPath = "/shared", readOnly = true }], securityContext = { allowPrivilegeEscalation = false, capabilities = { drop = ["ALL"] } }
    }]
  })
`) + `
resource "consul_k8s_acl_bootstrap" "test" {
  cluster = consul_k8s_cluster.test.id
}
resource "consul_k8s_auth_method" "test" {
  cluster = consul_k8s_acl_bootstrap.test.cluster
  name    = "pods"
  type    = "kubernetes"
}
` + scheduleHCL("consul_k8s_acl_bootstrap.test.cluster", `volume_claim = "backups"`, "")
	}
	var uid string
	test(t, resource.TestCase{
		Steps: []resource.TestStep{
			{
				Config: hcl(`labels = { team = "platform", tier = "1" }`),
				Check: func(*terraform.State) error {
					uid = podUID(t, namespace)
					return checkStrict(t, namespace, "platform", true)
				},
			},
			{
				Config:           hcl(`labels = { team = "other" }`),
				ConfigPlanChecks: resource.ConfigPlanChecks{PostApplyPostRefresh: []plancheck.PlanCheck{plancheck.ExpectEmptyPlan()}},
				Check: func(*terraform.State) error {
					if now := podUID(t, namespace); now != uid {
						return fmt.Errorf("the server was restarted: its pod was %s and is %s", uid, now)
					}
					return checkStrict(t, namespace, "other", false)
				},
			},
			{
				ResourceName: "consul_k8s_cluster.test", ImportState: true, ImportStateId: namespace + "/consul", ImportStateVerify: true,
				ImportStateVerifyIgnore: []string{"rollout", "timeouts"},
			},
		},
	})
}

func podUID(t *testing.T, namespace string) string {
	t.Helper()
	p, err := acctest.Kube(t).CoreV1().Pods(namespace).Get(t.Context(), "consul-server-0", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return string(p.UID)
}

// checkStrict checks the labels of the objects, and the pod of the server.
func checkStrict(t *testing.T, namespace, team string, tier bool) error {
	t.Helper()
	k, ctx := acctest.Kube(t), t.Context()
	check := func(o metav1.Object) error {
		_, has := o.GetLabels()["tier"]
		if o.GetLabels()["team"] != team || has != tier {
			return fmt.Errorf("%T %s has the labels %v", o, o.GetName(), o.GetLabels())
		}
		return nil
	}
	var all []metav1.Object
	add := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	secrets, err := k.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{})
	add(err)
	for i := range secrets.Items {
		if secrets.Items[i].Name != "restic" {
			all = append(all, &secrets.Items[i])
		}
	}
	if len(all) < 6 { // gossip, tls, ca, bootstrap, the token of the schedule, and that of the auth method
		return fmt.Errorf("there are only %d Secrets", len(all))
	}
	claims, err := k.CoreV1().PersistentVolumeClaims(namespace).List(ctx, metav1.ListOptions{})
	add(err)
	for i := range claims.Items {
		if claims.Items[i].Name != "backups" {
			all = append(all, &claims.Items[i])
		}
	}
	crons, err := k.BatchV1().CronJobs(namespace).List(ctx, metav1.ListOptions{})
	add(err)
	for i := range crons.Items {
		all = append(all, &crons.Items[i])
	}
	maps, err := k.CoreV1().ConfigMaps(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=consul"})
	add(err)
	for i := range maps.Items {
		all = append(all, &maps.Items[i])
	}
	sts, err := k.AppsV1().StatefulSets(namespace).Get(ctx, "consul-server", metav1.GetOptions{})
	add(err)
	all = append(all, sts, &sts.Spec.VolumeClaimTemplates[0])
	for _, o := range all {
		if err := check(o); err != nil {
			return err
		}
	}
	account, err := k.CoreV1().ServiceAccounts(namespace).Get(ctx, "consul-server", metav1.GetOptions{})
	add(err)
	if account.Annotations["example.com/role"] != "consul" {
		return fmt.Errorf("the service account has the annotations %v", account.Annotations)
	}
	out, err := k.Exec(
		ctx,
		namespace,
		"consul-server-0",
		"consul",
		nil,
		"/bin/sh",
		"-c",
		`echo "$(id -u):$(id -g) $$ $(cat /proc/1/comm) $(cat /shared/file) $GOTRACEBACK"`,
	)
	add(err)
	if got := out; !regexpUser.MatchString(got) {
		return fmt.Errorf("in the container of Consul: %q", got)
	}
	return nil
}
