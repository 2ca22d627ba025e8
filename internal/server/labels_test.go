package server

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// A policy that requires a label accepts everything that is rendered for a cluster.
func TestLabels_everyObjectHasThoseThatAreDeclared(t *testing.T) {
	t.Parallel()
	s := full()
	all := append(Objects(s).All(), SnapshotJob(s, "", ""), SnapshotClaim(s))
	all = append(all, TokenReviewer{Namespace: s.Namespace, Cluster: s.Name, AuthMethod: "pods", Labels: s.Labels}.Objects().All()...)
	pod := corev1.Pod{Spec: Objects(s).StatefulSet.Spec.Template.Spec, Status: corev1.PodStatus{PodIP: "10.0.0.1"}}
	all = append(all, Bridge(Objects(s).ClientService, []corev1.Pod{pod}, s.Labels))
	claims := Objects(s).StatefulSet.Spec.VolumeClaimTemplates
	for i := range claims {
		all = append(all, &claims[i])
	}
	for _, o := range all {
		if o.GetLabels()["team"] != "platform" {
			t.Errorf("%s lacks the label: %v", objectKey(o), o.GetLabels())
		}
	}
	if got := DeclaredLabels(Objects(s).StatefulSet); len(got) != 1 || got["team"] != "platform" {
		t.Errorf("read back: %v", got)
	}
}

func TestRelabelPatch(t *testing.T) {
	t.Parallel()
	labels := func(kv ...string) map[string]string {
		m := map[string]string{}
		for pair := range slices.Chunk(kv, 2) {
			m[pair[0]] = pair[1]
		}
		return m
	}
	for name, tt := range map[string]struct {
		live, former, declared map[string]string
		want                   string
	}{
		"nothing":             {labels("x", "y"), nil, nil, ""},
		"has them":            {labels("a", "b"), labels("a", "b"), labels("a", "b"), ""},
		"lacks one":           {labels("x", "y"), nil, labels("a", "b"), `{"metadata":{"labels":{"a":"b"}}}`},
		"another value":       {labels("a", "b"), labels("a", "b"), labels("a", "c"), `{"metadata":{"labels":{"a":"c"}}}`},
		"no longer declared":  {labels("a", "b", "x", "y"), labels("a", "b"), nil, `{"metadata":{"labels":{"a":null}}}`},
		"was removed already": {labels("x", "y"), labels("a", "b"), nil, ""},
	} {
		if got := string(RelabelPatch(tt.live, tt.former, tt.declared)); got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
}

// Kubernetes cannot change the labels of the claims of a StatefulSet, which has to be created again.
func TestSameClaims(t *testing.T) {
	t.Parallel()
	with := func(labels map[string]string) Spec {
		s := minimal()
		s.Labels = labels
		return s
	}
	a, b := Objects(with(nil)).StatefulSet, Objects(with(map[string]string{"a": "b"})).StatefulSet
	if SameClaims(a, b) || !SameVolumes(a, b) || !SameClaims(b, b.DeepCopy()) {
		t.Error("only the labels of the claims differ")
	}
}
