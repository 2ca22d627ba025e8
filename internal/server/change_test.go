package server

import (
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// everyChange changes every setting, one at a time.
func everyChange() map[string]func(*Spec) {
	changes := map[string]func(*Spec){
		"version":       func(s *Spec) { s.Version, s.Image = "1.21.0", "docker.io/hashicorp/consul:1.21.0" },
		"storage.size":  func(s *Spec) { s.Storage.Size = resource.MustParse("20Gi") },
		"storage.class": func(s *Spec) { s.Storage.Class = "fast" },
		"resources.requests.cpu": func(s *Spec) {
			s.Resources.Requests = map[string]resource.Quantity{"cpu": resource.MustParse("2"), "memory": resource.MustParse("1Gi")}
		},
		"jobs.resources.requests.cpu": func(s *Spec) {
			s.Jobs.Resources = &Resources{Requests: map[string]resource.Quantity{"cpu": resource.MustParse("2")}}
		},
		"jobs.resources.limits.memory": func(s *Spec) {
			s.Jobs.Resources = &Resources{Limits: map[string]resource.Quantity{"memory": resource.MustParse("2Gi")}}
		},
		"jobs.pod_labels.mesh":        func(s *Spec) { s.Jobs.PodLabels = map[string]string{"mesh": "none"} },
		"jobs.pod_annotations.inject": func(s *Spec) { s.Jobs.PodAnnotations = map[string]string{"inject": "no"} },
		"resources.limits.memory": func(s *Spec) {
			s.Resources.Limits = map[string]resource.Quantity{
				"memory": resource.MustParse("2Gi"),
			}
		},
		"placement.anti_affinity":                 func(s *Spec) { s.Placement.AntiAffinity = AntiAffinityPreferred },
		"placement.node_selector.pool":            func(s *Spec) { s.Placement.NodeSelector = map[string]string{"pool": "consul"} },
		"placement.tolerations":                   func(s *Spec) { s.Placement.Tolerations = []corev1.Toleration{{Operator: "Exists"}} },
		"placement.topology_spread":               func(s *Spec) { s.Placement.TopologySpread = full().Placement.TopologySpread },
		"gossip.key_secret.name":                  func(s *Spec) { s.Gossip.KeySecret = &SecretKey{Name: "a"} },
		"gossip.key_secret.key":                   func(s *Spec) { s.Gossip.KeySecret = &SecretKey{Key: "b"} },
		"gossip.rotation.after":                   func(s *Spec) { s.Gossip.Rotation.After = time.Hour },
		"tls.dns_names":                           func(s *Spec) { s.TLS.DNSNames = []string{"consul.example.com"} },
		"tls.ip_addresses":                        func(s *Spec) { s.TLS.IPAddresses = []string{"192.0.2.1"} },
		"service.load_balancer_source_ranges":     func(s *Spec) { s.Service.LoadBalancerSourceRanges = []string{"10.0.0.0/8"} },
		"service.annotations.lb":                  func(s *Spec) { s.Service.Annotations = map[string]string{"lb": "internal"} },
		"service.ip_families":                     func(s *Spec) { s.Service.IPFamilies = []string{"IPv6"} },
		"service.ip_family_policy":                func(s *Spec) { s.Service.IPFamilyPolicy = "PreferDualStack" },
		"service.node_ports.http":                 func(s *Spec) { s.Service.NodePorts.HTTP = 30500 },
		"service.node_ports.https":                func(s *Spec) { s.Service.NodePorts.HTTPS = 30501 },
		"service.node_ports.dns":                  func(s *Spec) { s.Service.NodePorts.DNS = 30053 },
		"security_context.run_as_user":            func(s *Spec) { s.Pod.RunAs = &RunAs{} },
		"security_context.run_as_group":           func(s *Spec) { s.Pod.RunAs = &RunAs{Group: new(int64(1))} },
		"security_context.fs_group":               func(s *Spec) { s.Pod.RunAs = &RunAs{FSGroup: new(int64(1))} },
		"share_process_namespace":                 func(s *Spec) { s.Pod.Separate = true },
		"image_pull_secrets":                      func(s *Spec) { s.Pod.PullSecrets = []string{"registry"} },
		"service_account.annotations.role":        func(s *Spec) { s.ServiceAccountAnnotations = map[string]string{"role": "consul"} },
		"extra_pod.env":                           func(s *Spec) { s.Pod.Extra = `{"env":[{"name":"A","value":"b"}]}` },
		"extra_config.limits.request_limits.mode": func(s *Spec) { s.ExtraConfig = `{"limits":{"request_limits":{"mode":"enforcing"}}}` },
		"namespace_labels.pod-security.kubernetes.io/enforce": func(s *Spec) {
			s.NamespaceLabels = map[string]string{
				"pod-security.kubernetes.io/enforce": "baseline",
			}
		},
		"namespace_annotations.owner":                   func(s *Spec) { s.NamespaceAnnotations = map[string]string{"owner": "me"} },
		"labels.team":                                   func(s *Spec) { s.Labels = map[string]string{"team": "platform"} },
		"annotations.note":                              func(s *Spec) { s.Annotations = map[string]string{"note": "all"} },
		"pod_labels.mesh":                               func(s *Spec) { s.PodLabels = map[string]string{"mesh": "off"} },
		"pod_annotations.scrape":                        func(s *Spec) { s.PodAnnotations = map[string]string{"scrape": "no"} },
		"extra_config.log_json":                         func(s *Spec) { s.ExtraConfig = `{"log_json":true}` },
		"extra_config.limits.http_max_conns_per_client": func(s *Spec) { s.ExtraConfig = `{"limits":{"http_max_conns_per_client":500}}` },
	}
	for _, setting := range Settings() { // those that accept any other value
		if _, ok := changes[setting.Name]; !ok {
			changes[setting.Name] = func(s *Spec) { setting.Set(s, another(setting.Get(*s))) }
		}
	}
	return changes
}

// A change says what it does: the servers restart if and only if the template of their pods differs, and every field of a Spec
// is covered.
func TestChanges_sayWhatHappens(t *testing.T) {
	t.Parallel()
	changes := everyChange()
	touched := map[string]bool{ // fields that are not settings
		"Name": true, "Namespace": true, "Declared": true, "Adopt": true, "Record": true,
	}
	for name, change := range changes {
		after := minimal()
		change(&after)
		got := Changes(minimal(), after)
		if !slices.ContainsFunc(got, func(c Change) bool { return c.Setting == name }) {
			t.Errorf("%s: got %q", name, got)
		}
		says := slices.ContainsFunc(got, func(c Change) bool { return c.Effect == Restart })
		happens := !reflect.DeepEqual(Objects(minimal()).StatefulSet.Spec.Template, Objects(after).StatefulSet.Spec.Template)
		if says != happens {
			t.Errorf("%s: says that servers restart: %v, and they do: %v (%q)", name, says, happens, got)
		}
		says = says || slices.ContainsFunc(got, func(c Change) bool { return c.Effect == Reload })
		if happens = ConfigVersion(minimal()) != ConfigVersion(after); happens && !says {
			t.Errorf("%s: agents have another configuration to load, but are not told: %q", name, got)
		}
		b, a := reflect.ValueOf(minimal()), reflect.ValueOf(after)
		for i := range a.NumField() {
			if !reflect.DeepEqual(b.Field(i).Interface(), a.Field(i).Interface()) {
				touched[a.Type().Field(i).Name] = true
			}
		}
	}
	for i := range reflect.TypeFor[Spec]().NumField() {
		if name := reflect.TypeFor[Spec]().Field(i).Name; !touched[name] {
			t.Errorf("no change of the field %s is tested", name)
		}
	}
	for name := range settingTexts(full()) {
		if _, ok := changes[name]; !ok &&
			!slices.Contains(
				[]string{
					"resources.requests.memory",
					"extra_config.log_level",
					"extra_pod.containers",
					"extra_pod.volumes",
					"extra_pod.volumeMounts",
					"extra_pod.initContainers",
				},
				name,
			) {
			t.Errorf("no change of the setting %s is tested", name)
		}
	}
	if got := Changes(full(), full()); len(got) > 0 {
		t.Errorf("without a change: %q", got)
	}
}

func TestChange_String(t *testing.T) {
	t.Parallel()
	after := full()
	after.Version, after.Image = "1.23.0", "docker.io/hashicorp/consul:1.23.0"
	after.ExtraConfig = ""
	after.Labels = maps.Clone(after.Labels)
	after.Labels["tier"] = "1"
	var got []string
	for _, c := range Changes(full(), after) {
		got = append(got, c.String())
	}
	want := []string{
		`extra_config.log_level: "debug" -> (none) (reload)`,
		`labels.tier: (none) -> 1 (write)`,
		`version: 1.22.7 -> 1.23.0 (restart)`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// Growth restarts no server, and a rebuild says that it does.
func TestChanges_ofVolumesSayWhatTheyDo(t *testing.T) {
	t.Parallel()
	with := func(change func(*Storage)) Spec { s := minimal(); change(&s.Storage); return s }
	before := with(func(s *Storage) { s.Class = "fast" })
	tests := map[string]struct {
		after Spec
		want  []string
	}{
		"in place": {
			with(func(s *Storage) { s.Class, s.Size = "fast", resource.MustParse("20Gi") }),
			[]string{"storage.size: 10Gi -> 20Gi (resize)"},
		},
		"by a rebuild": {
			with(func(s *Storage) { s.Class, s.Size, s.OnChange = "fast", resource.MustParse("20Gi"), RebuildServers }),
			[]string{"storage.on_change: grow -> rebuild (write)", "storage.size: 10Gi -> 20Gi (rebuild)"},
		},
		"to another class": {
			with(func(s *Storage) { s.Class, s.OnChange = "large", RebuildServers }),
			[]string{"storage.class: fast -> large (rebuild)", "storage.on_change: grow -> rebuild (write)"},
		},
		"to the default class": {
			with(func(s *Storage) { s.OnChange = RebuildServers }),
			[]string{"storage.class: fast -> (none) (write)", "storage.on_change: grow -> rebuild (write)"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, c := range Changes(before, tt.after) {
				got = append(got, c.String())
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}
