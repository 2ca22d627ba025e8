package lifecycle

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// podsOf are pods made from the template of each spec, each newer than the one before.
func podsOf(specs ...server.Spec) []corev1.Pod {
	var pods []corev1.Pod
	for i, s := range specs {
		template := server.Objects(s).StatefulSet.Spec.Template
		p := corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
		p.Name, p.Namespace = server.PodName(s.Name, i), s.Namespace
		p.CreationTimestamp = metav1.NewTime(time.Unix(int64(1000+i), 0))
		pods = append(pods, p)
	}
	return pods
}

// liveConfig is the ConfigMap of the last spec, with what the pods of the other specs need.
func liveConfig(pods []corev1.Pod, specs ...server.Spec) *corev1.ConfigMap {
	var cm *corev1.ConfigMap
	for _, s := range specs {
		s.FormerConfig = server.FormerConfig(s, cm, pods)
		cm = server.Objects(s).Config
	}
	return cm
}

// Without a StatefulSet, the pods show what a change starts from, whatever is declared.
func TestRunning_withoutAStatefulSet(t *testing.T) {
	t.Parallel()
	spec := func(version string, gossip, tls server.Stage) server.Spec {
		s := server.Spec{
			Name:      "consul",
			Namespace: "prod",
			Version:   version,
			Image:     "consul:" + version,
			Replicas:  3,
			Record:    server.Record{Established: true},
		}
		s.Gossip.Stage, s.TLS.Stage, s.TLS.TLSSettings = gossip, tls, server.DefaultTLS
		return s
	}
	const p, a, e = server.StagePlain, server.StageAccept, server.StageEncrypted
	old, next := spec("1.21.0", p, p), spec("1.22.7", e, e)
	half, beforeHalf := spec("1.22.7", a, a), spec("1.21.0", p, p)
	tests := map[string]struct {
		pods        []server.Spec
		known       server.Spec
		gossip, tls server.Stage
		version     string
		replicas    int32
		// stages are how many rolls it takes to next.
		stages   int
		snapshot bool
	}{
		"everything changes with it":      {[]server.Spec{old, old, old}, next, p, p, "1.21.0", 3, 3, true},
		"what is known is older":          {[]server.Spec{next, next, next}, old, e, e, "1.22.7", 3, 1, false},
		"a roll that was interrupted":     {[]server.Spec{beforeHalf, half, half}, half, a, a, "1.22.7", 3, 3, false},
		"one server is left":              {[]server.Spec{old}, next, p, p, "1.21.0", 1, 3, true},
		"none is left: what was declared": {nil, old, p, p, "1.21.0", 0, 3, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := Running{Pods: podsOf(tt.pods...), Established: true}
			if unknown := r.readStages(liveConfig(r.Pods, append(slices.Clone(tt.pods), tt.known)...), tt.known); len(unknown) > 0 {
				t.Errorf("the stages of %v are not known", unknown)
			}
			after := next
			after.Update = server.DefaultUpdate
			got := r.spec(tt.known, true)
			if got.Gossip.Stage != tt.gossip || got.TLS.Stage != tt.tls || got.Version != tt.version || got.Image != "consul:"+tt.version ||
				got.Replicas != tt.replicas ||
				!got.Established ||
				got.Creating {
				t.Errorf("got %+v", got)
			}
			if n := len(server.Stages(got, after)); n != tt.stages {
				t.Errorf("it takes %d rolls, want %d", n, tt.stages)
			}
			if takes := rollout.TakesSnapshot(got, after); takes != tt.snapshot {
				t.Errorf("a snapshot before: %v", takes)
			}
		})
	}
}

// A change starts from what the servers run, even if more was applied since.
func TestRunning_withAStatefulSet(t *testing.T) {
	t.Parallel()
	applied := server.Spec{Name: "consul", Namespace: "prod", Version: "1.22.7", Replicas: 3}
	applied.Gossip.Stage = server.StageEncrypted
	plain := applied
	plain.Gossip.Stage = server.StagePlain
	r := Running{Pods: podsOf(plain, plain, applied), Established: true}
	r.readStages(liveConfig(r.Pods, plain, applied), applied)
	got := r.spec(applied, false)
	if got.Gossip.Stage != server.StagePlain || got.Replicas != 3 || got.Version != "1.22.7" {
		t.Errorf("got %+v", got)
	}
	if back := server.Stages(got, plain); len(back) != 1 || back[0].Gossip.Stage != server.StagePlain {
		t.Errorf("the revert takes %d rolls", len(back))
	}
}

// If the ConfigMap is lost too, servers with keys have to be asked.
func TestRunning_withoutAConfigMap(t *testing.T) {
	t.Parallel()
	applied := server.Spec{Name: "consul", Namespace: "prod", Version: "1.22.7", Replicas: 3}
	applied.Gossip.Stage = server.StageSend
	plain := applied
	plain.Gossip.Stage = server.StagePlain
	r := Running{Pods: podsOf(plain, applied)}
	unknown := r.readStages(nil, applied)
	if !slices.Equal(unknown, []int{1}) || !slices.Equal(r.Gossip, []server.Stage{server.StagePlain, server.StageSend}) {
		t.Errorf("%v are unknown of %v", unknown, r.Gossip)
	}
}

// A cluster without its StatefulSet exists as long as its ConfigMap or a server does.
func TestIsOrphaned(t *testing.T) {
	t.Parallel()
	spec := server.Spec{Name: "consul", Namespace: "prod", Replicas: 3, Version: "1.22.7"}
	going := podsOf(spec)
	going[0].DeletionTimestamp, going[0].Finalizers = &metav1.Time{Time: time.Unix(1, 0)}, []string{"kubernetes.io/hold"}
	others := podsOf(spec)
	delete(others[0].Labels, server.LabelManagedBy)
	tests := map[string]struct {
		change func(*server.Set)
		pods   []corev1.Pod
		want   bool
	}{
		"all of it":                        {func(*server.Set) {}, podsOf(spec), false},
		"no StatefulSet":                   {func(s *server.Set) { s.StatefulSet = nil }, nil, true},
		"only pods":                        {func(s *server.Set) { *s = server.Set{} }, podsOf(spec), true},
		"only pods that are being deleted": {func(s *server.Set) { *s = server.Set{} }, going, false},
		"only pods of others":              {func(s *server.Set) { *s = server.Set{} }, others, false},
		"no ConfigMap either":              {func(s *server.Set) { s.StatefulSet, s.Config = nil, nil }, nil, false},
		"a ConfigMap without owner":        {func(s *server.Set) { s.StatefulSet, s.Config.Labels = nil, nil }, nil, false},
		"a ConfigMap of another cluster":   {func(s *server.Set) { s.StatefulSet, s.Config.Labels = nil, server.OwnerLabels("other") }, nil, false},
		"nothing of it is left":            {func(s *server.Set) { *s = server.Set{} }, nil, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			live := server.Objects(spec)
			tt.change(&live)
			d, _ := claimsOnly(tt.pods)
			if got, err := (objects{d}).isOrphaned(t.Context(), live, "consul"); got != tt.want || err != nil {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// If the record of the first leader is missing, other records and the servers show whether there was one.
func TestEstablished_withoutTheRecord(t *testing.T) {
	t.Parallel()
	marked := []corev1.PersistentVolumeClaim{claimOf("data-consul-server-0", "1.22.7")}
	spec := server.Spec{Name: "consul", Namespace: "prod", Replicas: 3, Version: "1.22.7"}
	tests := map[string]struct {
		change func(*server.Set)
		claims []corev1.PersistentVolumeClaim
		want   bool
	}{
		"a create that is not complete":         {func(s *server.Set) { s.StatefulSet.Annotations[server.AnnotationCreating] = "true" }, nil, false},
		"an incomplete create with data":        {func(s *server.Set) { s.StatefulSet.Annotations[server.AnnotationCreating] = "true" }, marked, true},
		"a complete create":                     {func(*server.Set) {}, nil, true},
		"a complete create without a ConfigMap": {func(s *server.Set) { s.Config = nil }, nil, true},
		"an incomplete create without a ConfigMap": {
			func(s *server.Set) { s.Config, s.StatefulSet.Annotations[server.AnnotationCreating] = nil, "true" },
			nil,
			false,
		},
		"a recovery from nothing": {
			func(s *server.Set) { s.StatefulSet.Annotations[server.AnnotationRecovering] = rollout.FromNothing },
			marked,
			false,
		},
		"new servers":                      {func(s *server.Set) { *s = server.Set{} }, nil, false},
		"new servers on volumes with data": {func(s *server.Set) { *s = server.Set{} }, marked, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			live := server.Objects(spec)
			tt.change(&live)
			d, _ := claimsOnly(nil, tt.claims...)
			if got, err := (observer{d}).established(t.Context(), live, retainedClaims("consul", tt.claims)); got != tt.want || err != nil {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// A record of data does not count if the server that uses the volume knows no Raft peer.
func TestHadLeader_ifServersKnowNoPeers(t *testing.T) {
	t.Parallel()
	spec := server.Spec{Name: "consul", Namespace: "prod", Replicas: 3, Version: "1.22.7", Record: server.Record{Creating: true}}
	pods := podsOf(spec, spec, spec)
	marked := func(ordinals ...int) []Retained {
		var all []Retained
		for _, i := range ordinals {
			all = append(all, Retained{Name: server.ClaimName(server.PodName("consul", i)), Ordinal: i, Version: "1.22.7"})
		}
		return all
	}
	tests := map[string]struct {
		creating bool
		claims   []Retained
		empty    []corev1.Pod
		want     bool
	}{
		"all answer":                             {true, marked(0, 1, 2), pods, false},
		"one does not run":                       {true, marked(0, 1, 2), pods[:2], true},
		"one without a record does not run":      {true, marked(0, 1), pods[:2], false},
		"a volume that no server uses":           {true, marked(0, 1, 2, 3), pods, true},
		"none runs":                              {true, marked(0), nil, true},
		"all answer, and the create is complete": {false, marked(0, 1, 2), pods, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := spec
			s.Creating = tt.creating
			if got := hadLeader(server.Objects(s).StatefulSet, tt.claims, tt.empty); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// A pod that is being deleted and does not run is not asked: it does not answer.
func TestThatRun(t *testing.T) {
	t.Parallel()
	spec := server.Spec{Name: "consul", Namespace: "prod", Replicas: 4, Version: "1.22.7"}
	pods := podsOf(spec, spec, spec, spec)
	for i := range pods {
		state := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
		if i%2 == 1 {
			state = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
		}
		pods[i].Status.ContainerStatuses = []corev1.ContainerStatus{{Name: server.ContainerName, State: state}}
		if i > 1 {
			pods[i].DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
		}
	}
	var got []string
	for _, p := range thatRun(pods) {
		got = append(got, p.Name)
	}
	if want := []string{"consul-server-0", "consul-server-2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Volumes of servers that a new cluster does not start do not count as a former leader.
func TestRunning_ofANewClusterWithVolumesOfFormerServers(t *testing.T) {
	t.Parallel()
	spec := server.Spec{Name: "consul", Namespace: "prod", Replicas: 3, Version: "1.22.7"}
	for name, tt := range map[string]struct {
		claim string
		want  bool
	}{
		"of a server that it starts": {"data-consul-server-2", true},
		"of a server beyond":         {"data-consul-server-3", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _ := claimsOnly(nil, claimOf(tt.claim, "1.22.7"))
			r, err := observer{d}.running(t.Context(), server.Set{}, spec)
			if err != nil || r.Established != tt.want || len(r.Claims) != 1 {
				t.Errorf("got %+v, %v", r, err)
			}
		})
	}
}

// An update that would start servers with data of a newer version is refused, even if no server runs.
func TestRunning_checkVersion(t *testing.T) {
	t.Parallel()
	r := Running{
		Claims: []Retained{{Name: "data-consul-server-0", Version: "1.22.7"}, {Name: "data-consul-server-3", Ordinal: 3, Version: "1.23.0"}},
	}
	if err := r.checkVersion(server.Spec{Replicas: 3}, "1.21.0"); err == nil {
		t.Error("a downgrade of the data is not refused")
	}
	if err := r.checkVersion(server.Spec{Replicas: 3}, "1.22.7"); err != nil {
		t.Error(err)
	}
}
