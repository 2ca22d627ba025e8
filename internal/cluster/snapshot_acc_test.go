package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// The data from before an upgrade can be restored by hand, as the guide says.
func TestAccCluster_upgradeCanBeRevertedFromItsSnapshot(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t) // it admits restricted pods only
	config := func(version string) string { return hclVersion(namespace, version, stepDeny) + bootstrapHCL("") }
	snapshot := tfjsonpath.New("upgrade_snapshot")
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{
			{
				Config:            config(acctest.OlderVersion),
				ConfigStateChecks: []statecheck.StateCheck{statecheck.ExpectKnownValue(address, snapshot, knownvalue.Null())},
				Check: func(*terraform.State) error {
					call(t, acctest.Consul(t, namespace, "consul"), managementToken(t, namespace), func(c *api.Client) error {
						_, err := c.KV().Put(&api.KVPair{Key: "precious", Value: []byte("yes")}, nil)
						return err
					})
					return nil
				},
			},
			{
				Config: config(acctest.ConsulVersion),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectUnknownValue(address, snapshot),
					plancheck.ExpectKnownValue(
						address,
						tfjsonpath.New("rollout").AtMapKey("steps").AtSliceIndex(0),
						knownvalue.StringExact("take a snapshot"),
					),
					plancheck.ExpectKnownValue(address, tfjsonpath.New("rollout").AtMapKey("changes"), knownvalue.ListExact([]knownvalue.Check{
						knownvalue.StringExact(fmt.Sprintf("version: %s -> %s (restart in place)", acctest.OlderVersion, acctest.ConsulVersion)),
					})),
				}},
				ConfigStateChecks: []statecheck.StateCheck{
					statecheck.ExpectKnownValue(address, tfjsonpath.New("running_version"), knownvalue.StringExact(acctest.ConsulVersion)),
					ranAsPlanned{t, namespace},
					statecheck.ExpectKnownValue(address, snapshot.AtMapKey("claim"), knownvalue.StringExact("consul-snapshots")),
					statecheck.ExpectKnownValue(address, snapshot.AtMapKey("version"), knownvalue.StringExact(acctest.OlderVersion)),
					statecheck.ExpectKnownValue(
						address,
						snapshot.AtMapKey("file"),
						knownvalue.StringRegexp(regexp.MustCompile(`^consul-`+regexp.QuoteMeta(acctest.OlderVersion)+`-\d{8}T\d{6}Z\.snap$`)),
					),
				},
				Check: func(s *terraform.State) error {
					if err := errors.Join(noJob(t, namespace), allRun(t, namespace, acctest.ConsulVersion)); err != nil {
						return err
					}
					a := s.RootModule().Resources[address].Primary.Attributes
					return restoreByHand(t, namespace, a["upgrade_snapshot.file"], a["upgrade_snapshot.sha256"])
				},
			},
			{Config: config(acctest.ConsulVersion), PlanOnly: true},
			{ // only the state knows what the latest change did
				ResourceName: address, ImportState: true, ImportStateId: namespace + "/consul", ImportStateVerify: true,
				ImportStateVerifyIgnore: []string{"rollout"},
			},
		},
	})
}

// allRun checks that three servers report a version.
func allRun(t *testing.T, namespace, version string) error {
	t.Helper()
	h, err := consul.ReadHealth(t.Context(), acctest.Consul(t, namespace, "consul"), managementToken(t, namespace))
	if err != nil {
		return err
	}
	if m := h.MissingVoters(3); m != "" {
		return fmt.Errorf("not three healthy voters: %s", m)
	}
	for _, s := range h.Servers {
		if s.Version != version {
			return fmt.Errorf("%s runs %s", s.Name, s.Version)
		}
	}
	return nil
}

// restoreByHand deletes a key that is in the snapshot, follows the guide, and checks that the key is back and the
// servers are healthy.
func restoreByHand(t *testing.T, namespace, file, sha256 string) error {
	t.Helper()
	c, token, pods := acctest.Consul(t, namespace, "consul"), managementToken(t, namespace), acctest.Kube(t).CoreV1().Pods(namespace)
	call(t, c, token, func(c *api.Client) error {
		_, err := c.KV().Delete("precious", nil)
		return err
	})
	guide, err := os.ReadFile(filepath.Join(acctest.Root(t), "templates", "guides", "operating.md"))
	if err != nil {
		return err
	}
	_, text, _ := strings.Cut(string(guide), "\n## The snapshot before an upgrade\n")
	_, text, _ = strings.Cut(text, "```yaml\n")
	text, _, ok := strings.Cut(text, "```")
	var pod corev1.Pod
	if err := yaml.UnmarshalStrict([]byte(text), &pod); err != nil || !ok {
		return fmt.Errorf("the guide's pod: %w", err)
	}
	pod.Namespace = namespace
	for i, e := range pod.Spec.Containers[0].Env {
		pod.Spec.Containers[0].Env[i].Value = map[string]string{"FILE": file, "SHA256": sha256}[e.Name]
	}
	if _, err := pods.Create(t.Context(), &pod, metav1.CreateOptions{}); err != nil {
		return err
	}
	acctest.Wait(t, "the restore", func(ctx context.Context) (string, error) {
		p, err := pods.Get(ctx, pod.Name, metav1.GetOptions{})
		if err != nil {
			return err.Error(), nil
		}
		if p.Status.Phase != corev1.PodFailed {
			return map[bool]string{false: string(p.Status.Phase)}[p.Status.Phase == corev1.PodSucceeded], nil
		}
		log, err := pods.GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
		return "", errors.Join(fmt.Errorf("it failed: %s", log), err)
	})
	if err := pods.Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	acctest.Wait(t, "the servers", func(ctx context.Context) (string, error) {
		h, err := consul.ReadHealth(ctx, c, token)
		if err != nil {
			return err.Error(), nil
		}
		return h.MissingVoters(3), nil
	})
	acctest.Wait(t, "the agents to update their entries in the catalog", func(ctx context.Context) (string, error) {
		drift, err := consulacl.AgentTokenDrift(ctx, c, token)
		return strings.Join(drift, ", "), err
	})
	call(t, c, token, func(c *api.Client) error {
		pair, _, err := c.KV().Get("precious", &api.QueryOptions{RequireConsistent: true})
		if err == nil && pair == nil {
			err = errors.New("the key that was deleted after the upgrade is not back")
		}
		return err
	})
	return nil
}

func noJob(t *testing.T, namespace string) error {
	t.Helper()
	jobs, err := acctest.Kube(t).BatchV1().Jobs(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	if len(jobs.Items) > 0 {
		return fmt.Errorf("the Job %s still exists", jobs.Items[0].Name)
	}
	return nil
}

// Without a snapshot, nothing is upgraded, and the error says what to do. An upgrade that was interrupted after its
// snapshot is resumed with another one.
func TestAccCluster_noUpgradeWithoutItsSnapshot(t *testing.T) {
	acctest.PreCheck(t)
	t.Parallel()
	k, namespace := acctest.Kube(t), acctest.NamespaceName(t)
	config := func(version, more string) string {
		return required + hclVersion(
			namespace,
			version,
			"  create_namespace = true\n  replicas = 1\n  timeouts = { update = \"30s\" }\n"+stepAllow,
		) + more
	}
	cli := acctest.NewCLI(t, map[string]string{"main.tf": config(acctest.OlderVersion, "")})
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	refused := func(more string, texts ...string) {
		t.Helper()
		cli.Write("main.tf", config(acctest.ConsulVersion, more))
		out, code := cli.Run(t.Context(), "apply", "-auto-approve", "-no-color")
		if code == 0 {
			t.Fatalf("the upgrade continued:\n%s", out)
		}
		for _, text := range append(texts, "Nothing was changed", "snapshot_before = false") {
			if !acctest.Says(text).MatchString(strings.ReplaceAll(out, "│", "")) {
				t.Errorf("the error does not say %q:\n%s", text, out)
			}
		}
		sts, err := k.AppsV1().StatefulSets(namespace).Get(t.Context(), "consul-server", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if v := sts.Spec.Template.Labels[server.LabelVersion]; v != acctest.OlderVersion {
			t.Errorf("the declared version is %s", v)
		}
		if err := noJob(t, namespace); err != nil {
			t.Error(err)
		}
		if _, err := k.CoreV1().PersistentVolumeClaims(namespace).Get(
			t.Context(), "consul-snapshots", metav1.GetOptions{},
		); !apierrors.IsNotFound(
			err,
		) {
			t.Errorf("a claim without a volume still exists: %v", err)
		}
		cli.Write("main.tf", config(acctest.OlderVersion, more))
		if out, code := cli.Run(t.Context(), "plan", "-no-color", "-detailed-exitcode"); code != 0 {
			t.Errorf("the plan of the former configuration is not empty:\n%s", out)
		}
	}
	refused("", "the management token is lost: no Secret contains it", "bootstrap them with consul_k8s_acl_bootstrap")

	cli.Write("main.tf", config(acctest.OlderVersion, bootstrapHCL("")))
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color")
	claim := server.SnapshotClaim(
		server.Spec{Name: "consul", Namespace: namespace, Storage: server.Storage{Class: "no-such-class", Size: quantity.MustParse("1Gi")}},
	)
	if _, err := k.CoreV1().PersistentVolumeClaims(namespace).Create(t.Context(), claim, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	refused(bootstrapHCL(""), "Volume claim consul-snapshots: Pending (storage class no-such-class)")

	cli.Write("main.tf", strings.Replace(config(acctest.ConsulVersion, bootstrapHCL("")), `"30s"`, `"5m"`, 1))
	killed, out := cli.RunAndKill(t.Context(), "apply", func(ctx context.Context) bool {
		pods, err := k.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=consul-snapshot"})
		return err == nil && slices.ContainsFunc(pods.Items, func(p corev1.Pod) bool {
			if len(p.Status.ContainerStatuses) == 0 {
				return false
			}
			ended := p.Status.ContainerStatuses[0].State.Terminated
			return ended != nil && ended.ExitCode == 0
		})
	})
	if !killed {
		t.Fatalf("the apply ended before it could be killed:\n%s", out)
	}
	cli.Must(t.Context(), "apply", "-auto-approve", "-no-color", "-lock=false")
	if err := noJob(t, namespace); err != nil {
		t.Error(err)
	}
	if state := cli.State(); !strings.Contains(state, `"claim": "consul-snapshots"`) {
		t.Errorf("the state has no snapshot:\n%s", state)
	}
	if out, code := cli.Run(t.Context(), "plan", "-no-color", "-detailed-exitcode"); code != 0 {
		t.Errorf("the plan after that is not empty:\n%s", out)
	}
	cli.Must(t.Context(), "destroy", "-auto-approve", "-no-color")
	namespaceGone(t, namespace)
}
