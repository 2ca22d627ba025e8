package server

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/wanted"
)

func TestCheckExtraPod(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{ // what the error must say, "" for none
		`{}`: "",
		`{"containers":[{"name":"exporter","image":"e:1","resources":{"requests":{"cpu":"10m"}}}]}`:               "",
		`{"initContainers":[{"name":"mesh","image":"m:1","restartPolicy":"Always"}]}`:                             "",
		`{"volumes":[{"name":"x","emptyDir":{}}],"volumeMounts":[{"name":"x","mountPath":"/consul/userconfig"}]}`: "",
		`{"envFrom":[{"secretRef":{"name":"s"}}]}`:                                                                "",
		`[]`:                   "JSON object",
		`null`:                 "JSON object",
		`containers = []`:      "jsonencode",
		`{} {}`:                "more than one",
		`{"hostNetwork":true}`: `no field "hostNetwork"`,
		`{"containers":[{"name":"e","image":"e:1","imagePullPolice":"Always"}]}`:                             `"imagePullPolice"`,
		`{"containers":[{"name":"e","image":1}]}`:                                                            "image must not be a number",
		`{"containers":[{"name":"e"}]}`:                                                                      "containers[0].image: missing",
		`{"containers":[{"image":"e:1"}]}`:                                                                   "containers[0].name",
		`{"containers":[{"name":"consul","image":"e:1"}]}`:                                                   `"consul" is taken`,
		`{"initContainers":[{"name":"e","image":"e:1"}],"containers":[{"name":"e","image":"e:1"}]}`:          `"e" is taken`,
		`{"containers":[{"name":"e","image":"e:1","volumeMounts":[{"name":"nowhere","mountPath":"/x"}]}]}`:   `no volume "nowhere"`,
		`{"volumes":[{"name":"data","emptyDir":{}}]}`:                                                        `"data" is taken`,
		`{"volumes":[{"name":"X","emptyDir":{}}]}`:                                                           "volumes[0].name",
		`{"volumes":[{"name":"x","emptyDir":{}}],"volumeMounts":[{"name":"x","mountPath":"/consul/data/"}]}`: "reserved for the provider",
		`{"env":[{"name":"CONSUL_HTTP_TOKEN","value":"x"}]}`:                                                 "CONSUL_HTTP_TOKEN",
		`{"env":[{"name":"POD_IP","value":"x"}]}`:                                                            "POD_IP",
		`{"volumeMounts":[{"name":"x","mountPath":"/x"}]}`:                                                   `no volume "x"`,
	} {
		if err := CheckExtraPod(text); !wanted.Error(err, want) {
			t.Errorf("%s: got %v, want something about %q", text, err, want)
		}
	}
}

// Names that the provider uses in any state are refused for additions: no added volume can collide with a later
// change.
func TestOwnVolumes_areAllThatAreRendered(t *testing.T) {
	t.Parallel()
	s := full()
	s.Pod.Extra = ""
	spec := Objects(s).StatefulSet.Spec
	names := map[string]bool{dataVolume: true}
	for _, v := range spec.Template.Spec.Volumes {
		names[v.Name] = true
	}
	for _, name := range ownVolumes() {
		delete(names, name)
	}
	if len(names) > 0 {
		t.Errorf("not known to be the provider's: %v", names)
	}
	paths := map[string]bool{}
	for _, m := range spec.Template.Spec.Containers[0].VolumeMounts {
		paths[m.MountPath] = true
	}
	for _, p := range ownPaths() {
		delete(paths, p)
	}
	if len(paths) > 0 {
		t.Errorf("not known to be the provider's: %v", paths)
	}
}

// Jobs run as the same user as servers, and pull their images with the same credentials.
func TestJobPod_hasWhatPodsHaveInCommon(t *testing.T) {
	t.Parallel()
	servers, job := Objects(full()).StatefulSet.Spec.Template.Spec, JobPod(full(), nil).Spec
	if *job.SecurityContext.RunAsUser != 2000 || job.SecurityContext.RunAsGroup != nil || *job.SecurityContext.FSGroup != 3000 {
		t.Errorf("a Job runs as %+v", job.SecurityContext)
	}
	if len(job.ImagePullSecrets) != 1 || job.ImagePullSecrets[0] != servers.ImagePullSecrets[0] {
		t.Errorf("a Job pulls with %v", job.ImagePullSecrets)
	}
	if servers.ShareProcessNamespace != nil {
		t.Error("the process namespace is shared")
	}
	s := minimal()
	s.Pod.RunAs = &RunAs{}
	for name, c := range map[string]*corev1.PodSecurityContext{
		"servers": Objects(s).StatefulSet.Spec.Template.Spec.SecurityContext, "Job": JobPod(s, nil).Spec.SecurityContext,
	} {
		if c.RunAsUser != nil || c.RunAsGroup != nil || c.FSGroup != nil || c.FSGroupChangePolicy != nil || !*c.RunAsNonRoot {
			t.Errorf("%s: the platform cannot choose: %+v", name, c)
		}
	}
}

// An overload must not remove all servers from the Service: if request limits are enforced, the probe asks nothing
// that they apply to.
func TestReadinessProbe_isNotSubjectToRequestLimits(t *testing.T) {
	t.Parallel()
	for config, script := range map[string]bool{
		"":                            false,
		`{"limits":{"rpc_rate":100}}`: false,
		`{"limits":{"request_limits":{"mode":"permissive","read_rate":1}}}`:   false,
		`{"limits":{"request_limits":{"mode":"enforcing","read_rate":1}}}`:    true,
		`{"Limits":[{"Request_Limits":{"MODE":"enforcing","write_rate":1}}]}`: true,
	} {
		s := minimal()
		s.ExtraConfig = config
		p := Objects(s).StatefulSet.Spec.Template.Spec.Containers[0].ReadinessProbe
		if got := p.Exec != nil; got != script || (p.HTTPGet != nil) == script {
			t.Errorf("%s: asked by a script: %v", config, got)
		}
	}
}

// If clients may use IPv6, servers listen on it.
func TestClientAddr(t *testing.T) {
	t.Parallel()
	for want, services := range map[string][]Service{
		"0.0.0.0": {{}, {IPFamilies: []string{"IPv4"}}, {IPFamilyPolicy: "SingleStack"}},
		"::":      {{IPFamilies: []string{"IPv6"}}, {IPFamilies: []string{"IPv4", "IPv6"}}, {IPFamilyPolicy: "PreferDualStack"}, {IPFamilyPolicy: "RequireDualStack"}},
	} {
		for _, service := range services {
			s := minimal()
			s.Service = service
			if got := valueAt(rendered(t, s), "client_addr"); got != want {
				t.Errorf("%+v: got %s, want %s", service, got, want)
			}
		}
	}
}
