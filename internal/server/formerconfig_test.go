package server

import (
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func podWith(s Spec) corev1.Pod {
	return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: podTemplate(s).Annotations}}
}

// A server keeps the configuration that it was started with until it restarts.
func TestFormerConfig_isThatOfServersThatWereNotRestarted(t *testing.T) {
	t.Parallel()
	before, after := minimal(), minimal()
	after.UI = false
	live := Objects(before)

	after.FormerConfig = FormerConfig(after, live.Config, []corev1.Pod{podWith(before), podWith(after)})
	data := Objects(after).Config.Data
	for _, key := range []string{ConfigKey(before), extraKey(before)} {
		if data[key] == "" || data[key] != live.Config.Data[key] {
			t.Errorf("%s is %q, was %q", key, data[key], live.Config.Data[key])
		}
	}
	if data[ConfigKey(after)] == data[ConfigKey(before)] || data[ConfigKey(after)] == "" {
		t.Errorf("the change has no configuration of its own: %q", data[ConfigKey(after)])
	}
	if got := FormerConfig(after, Objects(after).Config, []corev1.Pod{podWith(after)}); len(got) > 0 {
		t.Errorf("kept without a user: %v", got)
	}
	if got := FormerConfig(before, live.Config, []corev1.Pod{podWith(before)}); len(got) > 0 {
		t.Errorf("without a change: %v", got)
	}
}

// A change that takes a reload changes the configuration of running servers.
func TestConfigKey_staysForAReload(t *testing.T) {
	t.Parallel()
	reload := minimal()
	reload.ExtraConfig = `{"log_level":"debug"}`
	if ConfigKey(reload) != ConfigKey(minimal()) {
		t.Error("running servers would never see it")
	}
	if maps.Equal(Objects(reload).Config.Data, Objects(minimal()).Config.Data) {
		t.Error("nothing is changed")
	}
}

// An apply that was killed after it wrote the ConfigMap and before the StatefulSet has changed nothing yet: what the
// servers run is read.
func TestParse_readsTheConfigurationThatTheTemplateNames(t *testing.T) {
	t.Parallel()
	before, after := minimal(), minimal()
	after.UI = false
	live := Objects(before)
	after.FormerConfig = FormerConfig(after, live.Config, []corev1.Pod{podWith(before)})
	live.Config = Objects(after).Config
	got, err := Parse(live, before)
	if err != nil || !got.UI || got.FormerConfig[ConfigKey(after)] == "" {
		t.Errorf("got UI %v and the former configuration %v, %v", got.UI, got.FormerConfig, err)
	}
	if drift := Drift(Objects(got), live); len(drift) > 0 {
		t.Errorf("drift: %q", drift)
	}
}
