package restic

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Names that fit are joined unchanged. Others are shortened, and stay different.
func TestNames(t *testing.T) {
	t.Parallel()
	c, long, s := strings.Repeat("c", 45), strings.Repeat("c", 40), strings.Repeat("s", 30)
	for _, tt := range []struct{ got, want string }{
		{CronJobName("consul", "backup"), "consul-backup"},
		{TaskName("consul", "backup", TaskDrill), "consul-backup-drill"},
		{NowName("consul", "backup", TaskBackup), "consul-backup-now"},
		{NowName("consul", "backup", TaskDrill), "consul-backup-now-drill"},
		{TaskName(long, "daily", TaskPrune), long + "-daily-prune"}, // 52
		{TaskName(long, "backup", TaskBackup), long + "-backup"},
		{TaskName(long, "backup", TaskPrune), long[:37] + "-199ddc19-prune"},
		{TaskName(c, s, TaskBackup), c[:43] + "-"},
		{NowName(c, s, TaskDrill), c[:44] + "-"},
	} {
		if got := tt.got; got != tt.want && (!strings.HasSuffix(tt.want, "-") || !strings.HasPrefix(got, tt.want)) {
			t.Errorf("%s, want %s", got, tt.want)
		}
	}
	seen := map[string]bool{}
	for _, schedule := range []string{s, s[1:], s[:29] + "t"} {
		for _, task := range []string{TaskBackup, TaskPrune, TaskCheck, TaskDrill} {
			for _, name := range []string{TaskName(c, schedule, task), NowName(c, schedule, task)} {
				if seen[name] {
					t.Errorf("%s is used twice", name)
				}
				seen[name] = true
			}
		}
	}
}

// A cluster with any legal name can use every feature: each derived name and label is valid in Kubernetes.
func TestNames_fitKubernetes(t *testing.T) {
	t.Parallel()
	for _, cluster := range []string{
		"c", "consul", strings.Repeat("c", 38), strings.Repeat("c", 40), "c" + strings.Repeat("-c", 22), strings.Repeat("c", 45),
	} {
		for _, schedule := range []string{"b", "backup", strings.Repeat("s", 30)} {
			servers := server.Spec{
				Namespace: strings.Repeat(
					"n",
					63,
				), Name: cluster, Datacenter: strings.Repeat("d", 63), Domain: "consul", Image: "consul:1.22.7", Version: "1.22.7", Replicas: 7,
				Storage: server.Storage{Size: resource.MustParse("1Gi")}, ACL: server.ACL{Enabled: true},
				TLS: server.TLS{Stage: server.StageEncrypted, TLSSettings: server.DefaultTLS}, Gossip: server.Gossip{Stage: server.StageEncrypted},
			}
			spec := Spec{
				Name: schedule, Schedule: "0 * * * *", Repository: Repository{Claim: "backups", Secret: "restic"}, Image: DefaultImage,
				Deadline: time.Hour,
				Prune:    Prune{Schedule: "0 0 * * *"}, Check: Check{Schedule: "0 1 * * *", Parts: 7}, Drill: Drill{Schedule: "0 2 * * *"},
			}
			at := cluster + ", " + schedule
			name := func(kind, name string, longest int) {
				if errs := validation.IsDNS1123Subdomain(name); len(errs) > 0 || len(name) > longest {
					t.Errorf("%s: %s %q, of at most %d: %v", at, kind, name, longest, errs)
				}
			}
			labels := func(what string, all map[string]string) {
				for k, v := range all {
					if errs := append(validation.IsQualifiedName(k), validation.IsValidLabelValue(v)...); len(errs) > 0 {
						t.Errorf("%s: label %s=%s of %s: %v", at, k, v, what, errs)
					}
				}
			}
			volumes := func(what string, pod corev1.PodSpec) {
				for _, v := range pod.Volumes {
					name("volume of "+what, v.Name, validation.DNS1123LabelMaxLength)
				}
			}
			set := server.Objects(servers)
			for _, o := range set.All() {
				kind, longest := o.GetObjectKind().GroupVersionKind().Kind, validation.DNS1123SubdomainMaxLength
				switch kind {
				case "Service":
					longest = validation.DNS1035LabelMaxLength
					if errs := validation.IsDNS1035Label(o.GetName()); len(errs) > 0 {
						t.Errorf("%s: Service %s: %v", at, o.GetName(), errs)
					}
				case "StatefulSet":
					// Its pods have the label controller-revision-hash: the name, and a hash of at most ten characters.
					longest = validation.LabelValueMaxLength - len("-") - 10
				}
				name(kind, o.GetName(), longest)
				labels(kind+" "+o.GetName(), o.GetLabels())
			}
			labels("the servers", set.StatefulSet.Spec.Template.Labels)
			volumes("the servers", set.StatefulSet.Spec.Template.Spec)
			for ordinal := range server.MaxReplicas {
				pod := server.PodName(cluster, ordinal)
				name("pod", pod, validation.DNS1123LabelMaxLength) // it is a host name, a label, and a node of Consul
				name("PersistentVolumeClaim", server.ClaimName(pod), validation.DNS1123SubdomainMaxLength)
			}
			for kind, n := range map[string]string{
				"Lease": server.LeaseName(cluster), "Secret ": server.GossipSecretName(cluster), "Secret": server.TLSSecretName(cluster),
				"ConfigMap":           server.CAName(cluster),
				"Secret of the token": TokenSecretName(cluster, schedule), "bootstrap Secret": consulacl.DefaultSecretRef(cluster).Name,
				"EndpointSlice":                      server.BridgeName(server.ClientServiceName(cluster)),
				"PersistentVolumeClaim of snapshots": server.SnapshotClaimName(cluster),
			} {
				name(kind, n, validation.DNS1123SubdomainMaxLength)
			}
			job := server.SnapshotJob(servers, "secret", "token")
			for kind, n := range map[string]string{
				"Job of upgrades": job.Name, "Job of restores": RestoreJobName(cluster),
				"ServiceAccount": server.TokenReviewer{
					Namespace: servers.Namespace, Cluster: cluster, AuthMethod: strings.Repeat("a", 64),
				}.AccountName(),
			} {
				name(kind, n, validation.LabelValueMaxLength)
			}
			labels("the Job of upgrades", job.Spec.Template.Labels)
			labels("what the gossip key is in", server.OwnerLabels(cluster))
			for _, c := range CronJobs(spec, servers) {
				name("CronJob", c.Name, 52) // ValidateCronJobCreate in Kubernetes
				name("Job of a CronJob", fmt.Sprintf("%s-%d", c.Name, 29401234), validation.LabelValueMaxLength)
				labels("CronJob "+c.Name, c.Labels)
				labels("the pods of CronJob "+c.Name, c.Spec.JobTemplate.Spec.Template.Labels)
				volumes("CronJob "+c.Name, c.Spec.JobTemplate.Spec.Template.Spec)
			}
			for _, task := range []string{TaskBackup, TaskDrill} {
				j := Now(spec, servers, task)
				name("Job", j.Name, validation.LabelValueMaxLength)
				labels("Job "+j.Name, j.Spec.Template.Labels)
			}
		}
	}
}
