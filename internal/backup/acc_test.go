package backup_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
)

func TestMain(m *testing.M) { acctest.Main(m, acctest.BackupImages) }

const address = "consul_k8s_backup_schedule.test"

func test(t *testing.T, c resource.TestCase) {
	t.Helper()
	acctest.PreCheck(t)
	c.ProtoV6ProviderFactories = acctest.Factories()
	resource.Test(t, c)
}

// clusterHCL is a cluster of one server.
func clusterHCL(namespace, version, more string) string {
	return fmt.Sprintf(`
resource "consul_k8s_cluster" "test" {
  name      = "consul"
  namespace = %q
  version   = %q
  replicas  = 1
  storage   = { size = "1Gi", retention = { when_deleted = "Delete" } }
  %s
  %s
}
`, namespace, version, acctest.Small, more)
}

// scheduleHCL is a schedule that never starts a task by itself.
func scheduleHCL(cluster, repository, more string) string {
	if !strings.Contains(more, "schedule ") {
		more += "\n  schedule = \"0 0 31 2 *\""
	}
	if !strings.Contains(more, "retention ") {
		more += "\n  retention = { last = 2 }"
	}
	return fmt.Sprintf(`
resource "consul_k8s_backup_schedule" "test" {
  cluster    = %s
  repository = { %s, credentials_secret = "restic" }
  %s
}
`, cluster, repository, more)
}

// putSecret writes the Secret "restic".
func putSecret(t *testing.T, namespace string, data map[string]string) {
	t.Helper()
	const name = "restic"
	secrets := acctest.Kube(t).CoreV1().Secrets(namespace)
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: data}
	_, err := secrets.Create(t.Context(), s, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		err = secrets.Delete(t.Context(), name, metav1.DeleteOptions{})
		if err == nil {
			_, err = secrets.Create(t.Context(), s, metav1.CreateOptions{})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// snapshots are the snapshots in a repository, oldest first.
func snapshots(t *testing.T, namespace, repository string) (all []struct {
	ID       string
	Hostname string
	Tags     []string
	Paths    []string
}) {
	t.Helper()
	if err := json.Unmarshal(
		[]byte(acctest.Restic(t, namespace, repository, "restic", "restic -q --no-lock snapshots --json")), &all,
	); err != nil {
		t.Fatal(err)
	}
	return all
}

// runNow starts a task of a CronJob of the schedule at once, as "kubectl create job --from" does.
func runNow(t *testing.T, namespace, task string) {
	t.Helper()
	if reason := tryNow(t, namespace, task); reason != "" {
		t.Fatalf("the %s failed: %s", task, reason)
	}
}

// tryNow is runNow that returns the last words of the pod if the task fails.
func tryNow(t *testing.T, namespace, task string) string {
	t.Helper()
	return awaitNow(t, startNow(t, namespace, task, 0))
}

// startNow starts a task with a number of retries.
func startNow(t *testing.T, namespace, task string, again int32) *batchv1.Job {
	t.Helper()
	k := acctest.Kube(t)
	c, err := k.BatchV1().CronJobs(namespace).Get(t.Context(), restic.TaskName("consul", "backup", task), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	spec := c.Spec.JobTemplate.Spec
	spec.BackoffLimit = &again
	job, err := k.BatchV1().Jobs(namespace).Create(t.Context(), &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: c.Name + "-", Labels: c.Spec.JobTemplate.Labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(c, batchv1.SchemeGroupVersion.WithKind("CronJob"))},
		},
		Spec: spec,
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// awaitNow waits for the end of a Job, and returns the last words of its pod if the Job fails.
func awaitNow(t *testing.T, job *batchv1.Job) (reason string) {
	t.Helper()
	k := acctest.Kube(t)
	acctest.Wait(t, "the Job "+job.Name, func(ctx context.Context) (string, error) {
		j, err := k.BatchV1().Jobs(job.Namespace).Get(ctx, job.Name, metav1.GetOptions{})
		switch {
		case err != nil:
			return "", err
		case j.Status.Succeeded > 0:
			return "", nil
		case j.Status.Failed <= *j.Spec.BackoffLimit:
			return "it runs", nil
		}
		pods, err := k.CoreV1().Pods(job.Namespace).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + job.Name})
		if err != nil || len(pods.Items) == 0 {
			return "its pod is gone", err
		}
		reason = "unknown"
		for _, s := range slices.Concat(pods.Items[0].Status.InitContainerStatuses, pods.Items[0].Status.ContainerStatuses) {
			if s.State.Terminated != nil && s.State.Terminated.ExitCode != 0 {
				reason = s.State.Terminated.Message
			}
		}
		return "", nil
	})
	return reason
}

// Snapshots of a cluster with ACLs and TLS are verified, stored, and forgotten as declared. The schedule follows the
// servers through an upgrade. A change that cannot work is refused, and the schedule is kept. A destroy leaves only
// the repository.
func TestAccBackupSchedule_storesVerifiedSnapshots(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace, k := acctest.Namespace(t), acctest.Kube(t)
	url := acctest.StartS3(t, namespace)
	repository := "s3:" + url + "/bucket/consul"
	putSecret(t, namespace, acctest.Credentials())
	wrong := acctest.Credentials()
	wrong["RESTIC_PASSWORD"] = "wrong"
	incomplete := acctest.Credentials()
	delete(incomplete, "AWS_SECRET_ACCESS_KEY")
	config := func(version, more string) string {
		return clusterHCL(namespace, version, "tls = { enabled = true }\n  acl = { enabled = true }") + `
resource "consul_k8s_acl_bootstrap" "test" {
  cluster = consul_k8s_cluster.test.id
}
` + scheduleHCL("consul_k8s_acl_bootstrap.test.cluster", fmt.Sprintf("url = %q", repository), more)
	}
	const old, recent = acctest.OlderVersion, acctest.ConsulVersion
	var first, last string
	lastBackup := func(id *string) resource.TestCheckFunc {
		return func(s *terraform.State) error {
			a := s.RootModule().Resources[address].Primary.Attributes
			if *id = a["last_backup.snapshot"]; *id == "" || a["last_backup.size"] == "0" || a["last_backup.stored"] == "0" {
				return fmt.Errorf("the last backup is not shown: %v", a)
			}
			return nil
		}
	}
	image := func(want string) resource.TestCheckFunc {
		return func(*terraform.State) error {
			c, err := k.BatchV1().CronJobs(namespace).Get(t.Context(), "consul-backup", metav1.GetOptions{})
			if err != nil {
				return err
			}
			if got := c.Spec.JobTemplate.Spec.Template.Spec.InitContainers[0].Image; !strings.HasSuffix(got, ":"+want) {
				return fmt.Errorf("snapshots are taken with %s", got)
			}
			return nil
		}
	}

	test(t, resource.TestCase{
		CheckDestroy: func(*terraform.State) error {
			left, err := k.NamespaceContents(context.WithoutCancel(t.Context()), namespace)
			if want := "[pod/s3 secret/restic service/s3]"; err != nil || fmt.Sprint(left) != want {
				return fmt.Errorf("the destroy left %q, want %s: %w", left, want, err)
			}
			return nil
		},
		Steps: []resource.TestStep{
			{Config: config(old, ""), Check: resource.ComposeTestCheckFunc(lastBackup(&first), image(old), func(*terraform.State) error {
				all := snapshots(t, namespace, repository)
				if len(all) != 1 || all[0].ID != first || all[0].Hostname != namespace+".consul" ||
					!strings.Contains(fmt.Sprint(all[0].Tags), "schedule=backup version="+old) {
					return fmt.Errorf("the repository has %v, and the last backup is %s", all, first)
				}
				// The stored files are Consul's archive, with the right checksums.
				out := acctest.Restic(
					t,
					namespace,
					repository,
					"restic",
					`cd /tmp; restic -q dump latest /scratch/backup/consul.tar | tar x; sha256sum -c SHA256SUMS; restic -q dump latest /scratch/backup/info.json`,
				)
				if !strings.Contains(out, "state.bin: OK") || !strings.Contains(out, `"ACLToken"`) {
					return fmt.Errorf("the stored files are not a snapshot: %s", out)
				}
				return nil
			})},
			{Config: config(old, ""), PlanOnly: true},
			{
				ResourceName:            address,
				ImportState:             true,
				ImportStateId:           namespace + "/consul/backup",
				ImportStateVerify:       true,
				ImportStateVerifyIgnore: []string{"timeouts"},
			},
			{
				PreConfig: func() { runNow(t, namespace, restic.TaskBackup); runNow(t, namespace, restic.TaskBackup) },
				Config:    config(old, ""),
				Check: resource.ComposeTestCheckFunc(lastBackup(&last), func(*terraform.State) error {
					all := snapshots(t, namespace, repository)
					if len(all) != 2 || all[1].ID != last || all[0].ID == first {
						return fmt.Errorf("after three backups the repository has %v, first %s, last %s", all, first, last)
					}
					return nil
				}),
			},
			{ // a change by somebody else
				PreConfig: func() {
					_, err := k.BatchV1().CronJobs(
						namespace,
					).Patch(
						t.Context(),
						"consul-backup",
						types.MergePatchType,
						[]byte(`{"spec":{"concurrencyPolicy":"Allow"}}`),
						metav1.PatchOptions{},
					)
					if err != nil {
						t.Fatal(err)
					}
				},
				Config: config(old, ""),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(address, plancheck.ResourceActionUpdate),
				}},
				ConfigStateChecks: []statecheck.StateCheck{statecheck.ExpectKnownValue(address, tfjsonpath.New("drift"), knownvalue.ListSizeExact(0))},
			},
			{ // somebody removes the right
				PreConfig: func() {
					if err := consulacl.Of(acctest.Consul(t, namespace, "consul")).Do(t.Context(), func(client *api.Client) error {
						policy, _, err := client.ACL().PolicyReadByName("terraform-backup", nil)
						if err == nil {
							policy.Rules = `key_prefix "" { policy = "read" }`
							_, _, err = client.ACL().PolicyUpdate(policy, nil)
						}
						return err
					}); err != nil {
						t.Fatal(err)
					}
				},
				Config: config(old, ""),
				Check:  func(*terraform.State) error { runNow(t, namespace, restic.TaskBackup); return nil },
			},
			{ // somebody revokes the token
				PreConfig: func() {
					c := acctest.Consul(t, namespace, "consul")
					if err := consulacl.Of(c).Do(t.Context(), func(client *api.Client) error {
						_, err := client.ACL().TokenDelete(consulacl.BackupTokenAccessor(c, "backup"), nil)
						return err
					}); err != nil {
						t.Fatal(err)
					}
				},
				Config: config(old, ""),
				Check:  func(*terraform.State) error { runNow(t, namespace, restic.TaskBackup); return nil },
			},
			{Config: config(recent, ""), Check: image(recent)},
			{Config: config(recent, ""), PlanOnly: true},
			{ // another time, with the same settings: no backup is taken
				Config: config(recent, "schedule = \"0 0 30 2 *\"\n  suspend = true\n  time_zone = \"Europe/Paris\""),
				Check: func(s *terraform.State) error {
					if got := s.RootModule().Resources[address].Primary.Attributes["last_backup.version"]; got != old {
						return fmt.Errorf("the last backup is of version %s", got)
					}
					return nil
				},
			},
			{
				PreConfig:   func() { putSecret(t, namespace, wrong) },
				Config:      config(recent, "deadline = \"5m\""),
				ExpectError: acctest.Says("The password is not that of the repository"),
			},
			{
				PreConfig:   func() { putSecret(t, namespace, incomplete) },
				Config:      config(recent, "name = \"other\""),
				ExpectError: acctest.Says("it lacks the keys that a repository s3: needs: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
			},
			{
				PreConfig: func() { putSecret(t, namespace, acctest.Credentials()) },
				Config:    config(recent, ""),
				Check:     resource.ComposeTestCheckFunc(lastBackup(&last), image(recent)),
			},
		},
	})
	if n := len(snapshots(t, namespace, repository)); n == 0 {
		t.Error("the destroy deleted the backups")
	}
}

// A volume is a repository too, for a cluster without ACLs and TLS. A missing store is reported, and leaves nothing
// behind.
func TestAccLong_storesInAVolume(t *testing.T) {
	acctest.PreCheck(t)
	namespace, k := acctest.Namespace(t), acctest.Kube(t)
	acctest.ClaimForBackups(t, namespace)
	cluster := clusterHCL(namespace, acctest.ConsulVersion, "")
	config := func(repository string) string {
		return cluster + scheduleHCL("consul_k8s_cluster.test.id", repository, "")
	}
	absent := func(*terraform.State) error {
		for name, err := range map[string]error{
			"CronJob": func() error {
				_, err := k.BatchV1().CronJobs(namespace).Get(t.Context(), "consul-backup", metav1.GetOptions{})
				return err
			}(),
			"Job": func() error {
				_, err := k.BatchV1().Jobs(namespace).Get(t.Context(), restic.NowName("consul", "backup", restic.TaskBackup), metav1.GetOptions{})
				return err
			}(),
		} {
			if !apierrors.IsNotFound(err) {
				return fmt.Errorf("the %s exists: %w", name, err)
			}
		}
		return nil
	}
	test(t, resource.TestCase{
		Steps: []resource.TestStep{
			{Config: cluster},
			{Config: config(`url = "s3:http://s3.` + namespace + `.svc:7070/bucket"`), ExpectError: acctest.Says("The backup does not work")},
			{Config: cluster, Check: absent},
			{Config: config(`volume_claim = "missing"`), ExpectError: acctest.Says("the PersistentVolumeClaim does not exist")},
			{Config: cluster, Check: absent},
			{
				Config: config(`volume_claim = "backups"`),
				Check:  resource.TestCheckResourceAttr(address, "last_backup.version", acctest.ConsulVersion),
			},
			{Config: config(`volume_claim = "backups"`), PlanOnly: true},
			{Config: cluster, Check: absent},
			// The repository is used again.
			{
				Config: config(`volume_claim = "backups"`),
				Check:  resource.TestCheckResourceAttr(address, "last_backup.version", acctest.ConsulVersion),
			},
		},
	})
}

// A REST server with its own authority that requires a client certificate, and an SFTP server, are stores too. A
// server with another identity than the known one is refused.
func TestAccSnapshot_storesOnRESTAndSFTPServers(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	secret := func(name string, data map[string]string) {
		t.Helper()
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: data}
		if _, err := acctest.Kube(t).CoreV1().Secrets(namespace).Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	config := clusterHCL(namespace, acctest.ConsulVersion, "")
	snapshot := func(name, repository, secret string) string {
		return fmt.Sprintf(`
resource "consul_k8s_snapshot" "%[1]s" {
  cluster    = consul_k8s_cluster.test.id
  name       = "%[1]s"
  repository = { url = %[2]q, credentials_secret = "%[3]s" }
}
data "consul_k8s_backups" "%[1]s" {
  cluster    = consul_k8s_snapshot.%[1]s.cluster
  repository = { url = %[2]q, credentials_secret = "%[3]s" }
}
`, name, repository, secret)
	}
	rest, restKeys := acctest.StartREST(t, namespace)
	sftp, sftpKeys := acctest.StartSFTP(t, namespace)
	secret("rest", restKeys)
	secret("sftp", sftpKeys)
	stranger := maps.Clone(sftpKeys)
	_, otherKeys := acctest.StartSFTP(t, acctest.Namespace(t))
	stranger["known_hosts"] = strings.Fields(sftpKeys["known_hosts"])[0] + " " + strings.Join(
		strings.Fields(otherKeys["known_hosts"])[1:],
		" ",
	)
	secret("stranger", stranger)
	untrusted := maps.Clone(restKeys)
	delete(untrusted, "ca.crt")
	secret("untrusted", untrusted)
	anonymous := maps.Clone(restKeys)
	delete(anonymous, "tls.crt")
	secret("anonymous", anonymous)
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: config + snapshot("rest", rest, "untrusted"), ExpectError: acctest.Says("certificate signed by unknown authority")},
		{Config: config + snapshot("rest", rest, "anonymous"), ExpectError: acctest.Says("certificate required")},
		// restic may end before it prints the output of ssh.
		{
			Config:      config + snapshot("sftp", sftp, "stranger"),
			ExpectError: regexp.MustCompile(`Host\s+key\s+verification\s+failed|unable\s+to\s+start\s+the\s+sftp\s+session`),
		},
		{
			Config: config + snapshot("rest", rest, "rest") + snapshot("sftp", sftp, "sftp"),
			Check: resource.ComposeTestCheckFunc(
				resource.TestCheckResourceAttrPair("consul_k8s_snapshot.rest", "snapshot_id", "data.consul_k8s_backups.rest", "backups.0.id"),
				resource.TestCheckResourceAttrPair("consul_k8s_snapshot.sftp", "snapshot_id", "data.consul_k8s_backups.sftp", "backups.0.id"),
			),
		},
	}})
}

// The apply that turns on ACLs gives the schedule its token. The schedule does not prevent an apply that restores a
// lost configuration of the servers.
func TestAccBackupSchedule_continuesWithACLs(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	acctest.ClaimForBackups(t, namespace) // with the Secret
	config := func(acl, more string) string {
		return clusterHCL(
			namespace,
			acctest.ConsulVersion,
			acl,
		) + more + scheduleHCL(
			"consul_k8s_cluster.test.id",
			`volume_claim = "backups"`,
			"",
		)
	}
	with := config(
		"acl = { enabled = true, default_policy = \"allow\" }",
		"\nresource \"consul_k8s_acl_bootstrap\" \"test\" {\n  cluster = consul_k8s_cluster.test.id\n}\n",
	)
	test(t, resource.TestCase{Steps: []resource.TestStep{
		{Config: config("", "")},
		{Config: with, Check: func(*terraform.State) error { runNow(t, namespace, restic.TaskBackup); return nil }},
		{Config: with, PlanOnly: true},
		{ // the configuration of the servers is lost
			PreConfig: func() {
				if err := acctest.Kube(t).CoreV1().ConfigMaps(namespace).Delete(t.Context(), "consul-server", metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
			},
			Config: with, Check: func(*terraform.State) error { runNow(t, namespace, restic.TaskBackup); return nil },
		},
		{Config: with, PlanOnly: true},
	}})
}

// The repository is pruned and checked, the latest backup is restored into a temporary server, and the check and the
// drill report a damaged backup.
func TestAccBackupSchedule_provesItsBackups(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace := acctest.Namespace(t)
	url := acctest.StartS3(t, namespace)
	putSecret(t, namespace, acctest.Credentials())
	repository := "s3:" + url + "/bucket/consul"
	config := func(more string) string {
		more += `
  history   = 5
  resources = { requests = { cpu = "50m", memory = "64Mi" }, limits = { memory = "512Mi" } }
  placement = { node_selector = { "kubernetes.io/os" = "linux" }, tolerations = [{ key = "backups", operator = "Exists" }], priority_class = "system-cluster-critical" }
`
		return clusterHCL(
			namespace,
			acctest.ConsulVersion,
			"",
		) + scheduleHCL(
			"consul_k8s_cluster.test.id",
			fmt.Sprintf("url = %q", repository),
			more,
		)
	}
	const never = `schedule = "0 0 31 2 *"`
	tasks := fmt.Sprintf("prune = { %[1]s }\n  check = { %[1]s, parts = 1 }\n  drill = { %[1]s, sentinel_key = \"canary\" }", never)
	put := func(key string) {
		t.Helper()
		err := acctest.Consul(t, namespace, "consul").Any(t.Context(), "", func(client *api.Client) error {
			_, err := client.KV().Put(&api.KVPair{Key: key, Value: []byte(key)}, nil)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	// register adds a node with services to the catalog as if it had an agent, which the server of a drill cannot reach.
	register := func() {
		t.Helper()
		err := acctest.Consul(t, namespace, "consul").Any(t.Context(), "", func(client *api.Client) error {
			for _, service := range []string{"web", "db", "mail"} {
				_, err := client.Catalog().Register(&api.CatalogRegistration{
					Node: "worker", Address: "192.0.2.1", Service: &api.AgentService{Service: service},
					Checks: api.HealthChecks{{Node: "worker", CheckID: "serfHealth", Name: "Serf Health Status", Status: api.HealthPassing}},
				}, nil)
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	test(t, resource.TestCase{
		Steps: []resource.TestStep{
			{Config: config("")},
			{Config: config(tasks), ExpectError: acctest.Says("the key canary is not there after the restore")},
			{
				PreConfig: func() { put("canary"); register(); runNow(t, namespace, restic.TaskBackup) },
				Config:    config(tasks),
				Check: resource.ComposeTestCheckFunc(
					podsAreAsDeclared(
						t,
						namespace,
					),
					resource.TestCheckResourceAttrSet(address, "last_drill.seconds"),
					resource.TestCheckResourceAttrSet(address, "last_drill.index"),
					resource.TestCheckNoResourceAttr(address, "last_check.time"),
				),
			},
			{Config: config(tasks), PlanOnly: true},
			{
				ResourceName:            address,
				ImportState:             true,
				ImportStateId:           namespace + "/consul/backup",
				ImportStateVerify:       true,
				ImportStateVerifyIgnore: []string{"timeouts"},
			},
			{
				PreConfig: func() {
					for _, task := range []string{restic.TaskBackup, restic.TaskBackup, restic.TaskPrune, restic.TaskCheck, restic.TaskDrill} {
						runNow(t, namespace, task)
					}
				},
				Config: config(tasks),
				Check: resource.ComposeTestCheckFunc(
					resource.TestCheckResourceAttrSet(
						address,
						"last_prune.time",
					),
					resource.TestCheckResourceAttr(address, "last_check.part", "1"),
					resource.TestCheckResourceAttr(address, "last_check.parts", "1"),
				),
			},
			{ // a pack of the repository is damaged, which shows only when it is read
				PreConfig: func() {
					acctest.Damage(t, namespace, "/data/bucket/consul/data/*/*")
					for task, says := range map[string]string{restic.TaskCheck: "The repository is damaged.", restic.TaskDrill: "cannot be read back"} {
						if got := tryNow(t, namespace, task); !strings.Contains(got, says) {
							t.Errorf("the %s of a damaged repository says %q", task, got)
						}
					}
				},
				Config: config(tasks), PlanOnly: true,
			},
			{Config: config("")},
			{Config: config(""), PlanOnly: true, Check: func(*terraform.State) error {
				list, err := acctest.Kube(t).BatchV1().CronJobs(namespace).List(t.Context(), metav1.ListOptions{})
				if err != nil || len(list.Items) != 1 {
					return fmt.Errorf("there are %d CronJobs: %w", len(list.Items), err)
				}
				return nil
			}},
		},
	})
}

// podsAreAsDeclared checks the resources and the placement of provesItsBackups in the Jobs that have run.
func podsAreAsDeclared(t *testing.T, namespace string) resource.TestCheckFunc {
	t.Helper()
	return func(*terraform.State) error {
		pods, err := acctest.Kube(t).CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: restic.LabelSchedule})
		if err != nil || len(pods.Items) == 0 {
			return fmt.Errorf("there are %d pods of the schedule: %w", len(pods.Items), err)
		}
		latest := slices.MaxFunc(pods.Items, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
		spec := latest.Spec
		if spec.NodeSelector["kubernetes.io/os"] != "linux" || spec.PriorityClassName != "system-cluster-critical" ||
			!slices.ContainsFunc(spec.Tolerations, func(t corev1.Toleration) bool { return t.Key == "backups" }) {
			return fmt.Errorf("the pod %s is not placed as declared: %+v", latest.Name, spec)
		}
		for _, c := range spec.InitContainers { // the last container of a drill is a server
			if c.Resources.Requests.Cpu().String() != "50m" || c.Resources.Limits.Memory().String() != "512Mi" {
				return fmt.Errorf("the container %s has the resources %+v", c.Name, c.Resources)
			}
		}
		return nil
	}
}

// A backup waits for a store that is away, and is repeated if its pod is killed meanwhile.
func TestAccLong_survivesAStoreThatIsAwayAndAKill(t *testing.T) {
	acctest.PreCheck(t)
	namespace, k := acctest.Namespace(t), acctest.Kube(t)
	repository := "s3:" + acctest.StartS3(t, namespace) + "/bucket/consul"
	putSecret(t, namespace, acctest.Credentials())
	store := func(label string) {
		t.Helper()
		_, err := k.CoreV1().Services(
			namespace,
		).Patch(
			t.Context(),
			"s3",
			types.MergePatchType,
			fmt.Appendf(nil, `{"spec":{"selector":{"app":%q}}}`, label),
			metav1.PatchOptions{},
		)
		if err != nil {
			t.Fatal(err)
		}
	}
	// storing waits for another pod of a Job in which restic runs.
	storing := func(job *batchv1.Job, other types.UID) (found corev1.Pod) {
		t.Helper()
		acctest.Wait(t, "restic to run", func(ctx context.Context) (string, error) {
			pods, err := k.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + job.Name})
			if err != nil {
				return "", err
			}
			for _, p := range pods.Items {
				if p.UID != other && p.DeletionTimestamp == nil && len(p.Status.ContainerStatuses) > 0 &&
					p.Status.ContainerStatuses[0].State.Running != nil {
					found = p
					return "", nil
				}
			}
			return "it does not", nil
		})
		return found
	}
	test(t, resource.TestCase{Steps: []resource.TestStep{{
		Config: clusterHCL(
			namespace,
			acctest.ConsulVersion,
			"",
		) + scheduleHCL(
			"consul_k8s_cluster.test.id",
			fmt.Sprintf("url = %q", repository),
			"",
		),
		Check: func(*terraform.State) error {
			store("away")
			job := startNow(t, namespace, restic.TaskBackup, 2)
			first := storing(job, "")
			if err := k.CoreV1().Pods(namespace).Delete(
				t.Context(), first.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))},
			); err != nil {
				return err
			}
			storing(job, first.UID)
			store("s3")
			if reason := awaitNow(t, job); reason != "" {
				return fmt.Errorf("the backup failed: %s", reason)
			}
			if n := len(snapshots(t, namespace, repository)); n != 2 {
				return fmt.Errorf("the repository has %d snapshots", n)
			}
			return forgetsNothingOfAFormerCluster(t, namespace, repository)
		},
	}}})
}

// forgetsNothingOfAFormerCluster makes a repository with two backups, of which two are kept, look as if the cluster
// had started empty: nothing is forgotten until something was restored.
func forgetsNothingOfAFormerCluster(t *testing.T, namespace, repository string) error {
	t.Helper()
	add := func(tag string, index int) {
		acctest.Restic(
			t,
			namespace,
			repository,
			"restic",
			fmt.Sprintf("restic -q backup --host %s.consul --tag %s --tag version=1.22.7 --tag index=%d /etc/passwd", namespace, tag, index),
		)
	}
	for _, step := range []struct {
		tag         string
		index, want int
	}{
		{"schedule=backup", 999999999, 4}, // two, this one, and one more
		{"before-restore=abcdef", 5, 4},   // the last two, and these
	} {
		add(step.tag, step.index)
		runNow(t, namespace, restic.TaskBackup)
		if n := len(snapshots(t, namespace, repository)); n != step.want {
			return fmt.Errorf("after %s the repository has %d snapshots, want %d", step.tag, n, step.want)
		}
	}
	return nil
}

// A cluster with a name of 45 characters has TLS, gossip encryption, ACLs, and a schedule with every task, whose Jobs
// run as their own ServiceAccount with a token.
func TestAccBackupSchedule_ofALongName(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	namespace, k := acctest.Namespace(t), acctest.Kube(t)
	acctest.ClaimForBackups(t, namespace)
	putSecret(t, namespace, map[string]string{"RESTIC_PASSWORD": "secret"})
	name, schedule := "consul-"+strings.Repeat("x", 38), "every-"+strings.Repeat("y", 24)
	cluster := strings.Replace(
		clusterHCL(namespace, acctest.ConsulVersion, "tls = { enabled = true }\n  gossip = { enabled = true }\n  acl = { enabled = true }"),
		`"consul"`,
		`"`+name+`"`,
		1,
	) + `
resource "consul_k8s_acl_bootstrap" "test" {
  cluster = consul_k8s_cluster.test.id
}
`
	config := cluster + scheduleHCL(
		"consul_k8s_acl_bootstrap.test.cluster",
		`volume_claim = "backups", options = { "local.connections" = "1" }, service_account = { annotations = { "example.com/role" = "backup" }, token_audience = "backup.example.com" }`,
		fmt.Sprintf(
			"name = %q\n  prune = { schedule = \"0 0 30 2 *\" }\n  check = { schedule = \"0 0 30 2 *\" }\n  drill = { schedule = \"0 0 30 2 *\" }",
			schedule,
		),
	)
	account := restic.AccountName(name, schedule)
	ranAs := func(*terraform.State) error {
		made, err := k.CoreV1().ServiceAccounts(namespace).Get(t.Context(), account, metav1.GetOptions{})
		if err != nil || made.Annotations["example.com/role"] != "backup" {
			return fmt.Errorf("the ServiceAccount: %v, %w", made.Annotations, err)
		}
		for _, task := range []string{restic.TaskBackup, restic.TaskDrill} {
			job, err := k.BatchV1().Jobs(namespace).Get(t.Context(), restic.NowName(name, schedule, task), metav1.GetOptions{})
			if err != nil {
				return err
			}
			if got := job.Spec.Template.Spec.ServiceAccountName; got != account {
				return fmt.Errorf("the %s ran as %s", task, got)
			}
		}
		list, err := k.BatchV1().CronJobs(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) != 4 {
			return fmt.Errorf("%d CronJobs: %w", len(list.Items), err)
		}
		return nil
	}
	test(t, resource.TestCase{
		Steps: []resource.TestStep{
			{Config: config, Check: resource.ComposeTestCheckFunc(
				ranAs,
				resource.TestCheckResourceAttr(
					address,
					"last_backup.version",
					acctest.ConsulVersion,
				),
				resource.TestCheckResourceAttrSet(address, "last_drill.time"),
			)},
			{Config: config, PlanOnly: true},
			{
				ResourceName:            address,
				ImportState:             true,
				ImportStateId:           namespace + "/" + name + "/" + schedule,
				ImportStateVerify:       true,
				ImportStateVerifyIgnore: []string{"timeouts"},
			},
			{Config: cluster, Check: func(*terraform.State) error {
				if _, err := k.CoreV1().ServiceAccounts(namespace).Get(t.Context(), account, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
					return fmt.Errorf("the ServiceAccount exists: %w", err)
				}
				return nil
			}},
		},
	})
}

// Bad input is refused at plan, before the cluster exists.
func TestAccBackupSchedule_badInput(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	const good = `url = "s3:https://s3.example.com/bucket"`
	var refusals []acctest.Refusal
	for _, tt := range map[string]struct{ repository, more, says string }{
		"no schedule":      {good, `schedule = "every hour"`, `"every hour" is not a schedule`},
		"six fields":       {good, `schedule = "0 40 * * * *"`, "is not a schedule"},
		"a time zone":      {good, `time_zone = "Europe/Parys"`, `"Europe/Parys" is not a time zone`},
		"nothing kept":     {good, `retention = {}`, "Nothing would be kept"},
		"an age":           {good, `retention = { within = "a week" }`, `"a week" is not an age`},
		"unknown store":    {`url = "ftp://example.com/backups"`, "", "it must begin with one of s3:"},
		"a password":       {`url = "rest:https://me:secret@example.com/"`, "", "it contains a user or a password"},
		"two repositories": {good + `, volume_claim = "backups"`, "", "Set either url or volume_claim"},
		"no repository":    {`url = null`, "", "Set either url or volume_claim"},
		"a longer name":    {good, `name = "a-name-of-more-than-30-characters"`, "no more than 30 characters"},
		"no option":        {good + `, options = { "bucket-lookup" = "dns" }`, "", "is not an option: write"},
		"another's option": {good + `, options = { "azure.connections" = "2" }`, "", `its options begin with "s3."`},
		"two accounts":     {good + `, service_account = { name = "a", annotations = { a = "b" } }`, "", "Set either name"},
		"no account":       {good + `, service_account = { token_audience = "a" }`, "", "Set either name"},
		"no image":         {good, `image = "restic/Restic"`, "is not an image reference"},
		"no digest":        {good, `image = "restic/restic:0.17.3@sha256:0a"`, "is not a digest"},
		"limits":           {good, `resources = { requests = { memory = "1Gi" }, limits = { memory = "512Mi" } }`, "Limit below request"},
		"no quantity":      {good, `resources = { requests = { memory = "much" } }`, "is not a Kubernetes quantity"},
		"a toleration":     {good, `placement = { tolerations = [{ value = "x" }] }`, "Operator Equal needs a key"},
		"no label":         {good, `placement = { node_selector = { "a b" = "x" } }`, "would be refused by Kubernetes"},
		"no time":          {good, `deadline = "1s"`, "must be a duration between 1m0s and 24h0m0s"},
	} {
		refusals = append(
			refusals,
			acctest.Refusal{Config: scheduleHCL(`"nowhere/a-cluster-with-a-long-name"`, tt.repository, tt.more), Says: tt.says},
		)
	}
	acctest.ExpectRefusals(t, "", refusals)
}
