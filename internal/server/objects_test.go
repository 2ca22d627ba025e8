package server

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/wanted"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func minimal() Spec {
	s := Default()
	s.Name, s.Namespace, s.Version, s.Image = "consul", "prod", "1.22.7", "docker.io/hashicorp/consul:1.22.7"
	s.Performance.LeaveDrainTime = 5 * time.Second
	return s
}

func full() Spec {
	s := minimal()
	s.CreateNamespace, s.Established = true, true
	s.Replicas = 5
	s.Storage = Storage{Size: resource.MustParse("1Gi"), Class: "fast", OnChange: RebuildServers, WhenDeleted: Delete, WhenScaled: Delete}
	s.Resources.Limits = map[string]resource.Quantity{"memory": resource.MustParse("2Gi")}
	s.Placement = Placement{
		AntiAffinity:   AntiAffinityPreferred,
		TopologySpread: []TopologySpread{{TopologyKey: "topology.kubernetes.io/zone", MaxSkew: 1, WhenUnsatisfiable: "ScheduleAnyway"}},
		NodeSelector:   map[string]string{"pool": "consul"},
		Tolerations: []corev1.Toleration{
			{Key: "dedicated", Operator: "Equal", Value: "consul", Effect: "NoExecute", TolerationSeconds: new(int64(60))},
		},
		PriorityClass: "high",
	}
	s.Autopilot = Autopilot{LastContactThreshold: time.Second, MaxTrailingLogs: 1000, ServerStabilizationTime: 10 * time.Second}
	s.Update = Update{Strategy: OnDelete, PauseAfter: 1, OnFailure: RollBack, ServerTimeout: time.Minute}
	s.Service = Service{
		Type:                     "LoadBalancer",
		Annotations:              map[string]string{"lb": "internal"},
		LoadBalancerClass:        "lb.example/x",
		LoadBalancerSourceRanges: []string{"10.0.0.0/8"},
		ClusterIP:                "10.96.0.50",
		IPFamilies:               []string{"IPv4", "IPv6"},
		IPFamilyPolicy:           "RequireDualStack",
		ExternalTrafficPolicy:    "Local",
		NodePorts:                NodePorts{HTTPS: 30501, DNS: 30053},
	}
	s.ACL = ACL{Enabled: true, DefaultPolicy: "deny"}
	s.Gossip = Gossip{
		Stage:     StageSend,
		KeySecret: &SecretKey{Name: "gossip", Key: "key"},
		Rotation:  KeyRotation{Trigger: "1", After: time.Hour},
	}
	s.TLS = TLS{
		Stage: StageEncrypted,
		TLSSettings: TLSSettings{
			HTTPSOnly:         true,
			HTTPSPort:         9501,
			MinVersion:        TLS13,
			VerifyClients:     true,
			CertificateSecret: "issued",
			CASecret:          "my-ca",
			KeyAlgorithm:      "RSA-2048",
			CAValidity:        48 * time.Hour,
			CATrigger:         "1",
			Validity:          2 * time.Hour,
			RenewBefore:       time.Hour,
			DNSNames:          []string{"consul.example.com"},
			IPAddresses:       []string{"192.0.2.1"},
		},
	}
	s.ExtraConfig = `{"log_level":"debug"}`
	s.Labels = map[string]string{"team": "platform"}
	s.Annotations = map[string]string{"note": "all"}
	s.PodLabels = map[string]string{"mesh": "off"}
	s.PodAnnotations = map[string]string{"scrape": "no"}
	s.Jobs = JobSettings{
		Resources: &Resources{
			Requests: map[string]resource.Quantity{"cpu": resource.MustParse("1")},
			Limits:   map[string]resource.Quantity{"memory": resource.MustParse("512Mi")},
		},
		PodLabels: map[string]string{"mesh": "none"}, PodAnnotations: map[string]string{"inject": "no"},
	}
	s.NamespaceLabels = map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}
	s.NamespaceAnnotations = map[string]string{"owner": "me"}
	s.ServiceAccountAnnotations = map[string]string{"role": "consul"}
	s.Pod = Pod{
		RunAs: &RunAs{User: new(int64(2000)), FSGroup: new(int64(3000))}, Separate: true, PullSecrets: []string{"registry"},
		Extra: `{"volumes":[{"name":"plugins","emptyDir":{}}],"initContainers":[{"name":"fetch","image":"fetch:1"}],` +
			`"containers":[{"name":"exporter","image":"exporter:1","volumeMounts":[{"name":"plugins","mountPath":"/plugins"}]}],` +
			`"env":[{"name":"HTTPS_PROXY","value":"http://proxy:3128"}],"volumeMounts":[{"name":"plugins","mountPath":"/plugins","readOnly":true}]}`,
	}
	s.UpgradeSnapshot = &Snapshot{
		Claim: "consul-snapshots", File: "consul-1.21.0-20260102T030405Z.snap", Version: "1.21.0", Index: 42, Term: 2, Size: 3082,
		SHA256: strings.Repeat("0a", 32), Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s.Origin = &Origin{Snapshot: "0123abcd", Version: "1.21.0", Taken: at, Restored: at.Add(time.Hour)}
	return s
}

// The client Service does not route to a cluster that has to be restored, the restore can reach the servers, and the
// pending restore is read back.
func TestObjects_routeNoClientBeforeARestore(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		origin  *Origin
		pending bool
	}{
		"it started empty": {nil, false},
		"to be restored":   {&Origin{}, true},
		"restored":         {full().Origin, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := minimal()
			s.Origin = tt.origin
			set := Objects(s)
			leads := true
			for k, v := range set.ClientService.Spec.Selector {
				leads = leads && set.StatefulSet.Spec.Template.Labels[k] == v
			}
			if leads == tt.pending {
				t.Errorf("clients are routed to the servers: %v", leads)
			}
			if a := NewAccess(s, "", "").Address; (a == "http://consul.prod.svc:8500") == tt.pending {
				t.Errorf("the servers are reached at %s", a)
			}
			parsed, err := Parse(set, Spec{})
			if err != nil || !reflect.DeepEqual(parsed.Origin, tt.origin) || parsed.Origin.Pending() != tt.pending {
				t.Errorf("read back: %+v %v", parsed.Origin, err)
			}
		})
	}
}

func TestObjects_golden(t *testing.T) {
	for name, spec := range map[string]Spec{"minimal": minimal(), "full": full()} {
		t.Run(name, func(t *testing.T) { golden(t, name, Objects(spec).All()...) })
	}
}

// golden compares objects with a file of testdata.
func golden(t *testing.T, name string, objects ...Object) {
	t.Helper()
	var b bytes.Buffer
	for _, o := range objects {
		fields, err := Fields(o)
		if err != nil {
			t.Fatal(err)
		}
		y, err := yaml.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "---\n%s", y)
	}
	file := filepath.Join("testdata", name+".yaml")
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, b.Bytes()) {
		t.Errorf("the objects differ from %s; if that is intended: go test ./internal/server -update\n%s", file, b.String())
	}
}

// Import, refresh, and drift depend on this: what was rendered is read back completely, with and without managed
// fields.
func TestParse_isTheInverseOfObjects(t *testing.T) {
	interrupted := minimal()
	interrupted.Creating, interrupted.Resizing, interrupted.DeletionProtection = true, true, false
	platform := minimal()
	platform.Pod = Pod{RunAs: &RunAs{}, Separate: true}
	for name, spec := range map[string]Spec{
		"minimal": minimal(), "full": full(), "interrupted": interrupted, "left to the platform": platform, "in an adoption": takingOver(),
	} {
		t.Run(name, func(t *testing.T) {
			for _, live := range []Set{Objects(spec), applied(t, Set{}, spec)} {
				got, err := Parse(live, Spec{})
				if err != nil {
					t.Fatal(err)
				}
				want := spec
				normalize(&want)
				normalize(&got)
				if !reflect.DeepEqual(got, want) {
					t.Errorf("got  %+v\nwant %+v", got, want)
				}
				if drift := Drift(Objects(got), live); len(drift) > 0 {
					t.Errorf("drift after a round trip: %q", drift)
				}
			}
		})
	}
}

// normalize replaces empty maps by nil.
func normalize(s *Spec) {
	for _, m := range []*map[string]string{
		&s.Labels, &s.Annotations, &s.PodLabels, &s.PodAnnotations, &s.Service.Annotations, &s.Placement.NodeSelector, &s.NamespaceLabels,
		&s.NamespaceAnnotations, &s.ServiceAccountAnnotations,
	} {
		if len(*m) == 0 {
			*m = nil
		}
	}
}

// A lost or damaged ConfigMap must not look like another cluster.
func TestParse_keepsKnownValuesWithoutAConfiguration(t *testing.T) {
	want := full()
	for name, change := range map[string]func(*Set){
		"missing": func(s *Set) { s.Config = nil },
		"broken":  func(s *Set) { s.Config.Data[ConfigKey(full())] = "{" },
	} {
		t.Run(name, func(t *testing.T) {
			live := Objects(full())
			change(&live)
			got, err := Parse(live, full())
			if err != nil {
				t.Fatal(err)
			}
			normalize(&got)
			normalize(&want)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			drift := Drift(Objects(got), live)
			if len(drift) != 1 || !strings.HasPrefix(drift[0], "ConfigMap consul-server: ") {
				t.Errorf("drift is %q", drift)
			}
		})
	}
	edited := Objects(full())
	edited.Config.Data[ConfigKey(full())] = strings.Replace(edited.Config.Data[ConfigKey(full())], `"dc1"`, `"dc2"`, 1)
	if got, err := Parse(edited, full()); err != nil || got.Datacenter != "dc1" {
		t.Errorf("an edited ConfigMap moved the cluster to %q, %v", got.Datacenter, err)
	}
}

func TestParse_refusesForeignStatefulSet(t *testing.T) {
	set := Objects(minimal())
	delete(set.StatefulSet.Labels, LabelManagedBy)
	if _, err := Parse(set, Spec{}); err == nil {
		t.Error("a StatefulSet without the owner's label counts as the provider's")
	}
}

func TestDrift_namesWhatOthersChanged(t *testing.T) {
	live := Objects(minimal())
	live.ClientService.Spec.Ports[0].Port = 80
	live.ClientService.Spec.Ports = append(live.ClientService.Spec.Ports, corev1.ServicePort{Name: "mine", Port: 1})
	live.DisruptionBudget = nil
	live.StatefulSet.Spec.Template.Spec.Containers[0].LivenessProbe = nil
	live.StatefulSet.Labels["added-by"] = "someone"
	got := Drift(Objects(minimal()), live)
	want := []string{
		"Service consul: spec.ports[name=http].port",
		"PodDisruptionBudget consul-server: missing",
		"StatefulSet consul-server: spec.template.spec.containers[name=consul].livenessProbe",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A change that needs no restart must not change the pod template, and vice versa.
func TestObjects_whatRestarts(t *testing.T) {
	template := func(s Spec) string {
		y, err := yaml.Marshal(Objects(s).StatefulSet.Spec.Template)
		if err != nil {
			t.Fatal(err)
		}
		return string(y)
	}
	tests := map[string]struct {
		change   func(*Spec)
		restarts bool
	}{
		"replicas":          {func(s *Spec) { s.Replicas = 5 }, false},
		"established":       {func(s *Spec) { s.Established = true }, false},
		"labels":            {func(s *Spec) { s.Labels = map[string]string{"a": "b"} }, false},
		"service type":      {func(s *Spec) { s.Service.Type = "NodePort" }, false},
		"retention":         {func(s *Spec) { s.Storage.WhenDeleted = Delete }, false},
		"protection":        {func(s *Spec) { s.DeletionProtection = false }, false},
		"extra_config form": {func(s *Spec) { s.ExtraConfig = " { } " }, false},
		"version":           {func(s *Spec) { s.Version = "1.22.8" }, true},
		"image":             {func(s *Spec) { s.Image = "mirror/consul:1.22.7" }, true},
		"domain":            {func(s *Spec) { s.Domain = "cluster.local" }, true},
		"acl":               {func(s *Spec) { s.ACL.Enabled = true }, true},
		"ui":                {func(s *Spec) { s.UI = false }, true},
		"drain":             {func(s *Spec) { s.Performance.LeaveDrainTime = time.Second }, true},
		"telemetry":         {func(s *Spec) { s.Telemetry.PrometheusRetentionTime = 0 }, true},
		"extra_config":      {func(s *Spec) { s.ExtraConfig = `{"log_json":true}` }, true},
		"reloadable":        {func(s *Spec) { s.ExtraConfig = `{"log_level":"debug","limits":{"rpc_rate":100}}` }, false},
		"half reloadable":   {func(s *Spec) { s.ExtraConfig = `{"log_level":"debug","limits":{"https_handshake_timeout":"9s"}}` }, true},
		"enforced limits":   {func(s *Spec) { s.ExtraConfig = `{"limits":{"request_limits":{"mode":"enforcing"}}}` }, true},
		"permissive limits": {func(s *Spec) { s.ExtraConfig = `{"limits":{"request_limits":{"mode":"permissive"}}}` }, false},
		"one family":        {func(s *Spec) { s.Service.IPFamilies = []string{"IPv4"} }, false},
		"requests":          {func(s *Spec) { s.Resources.Requests = nil }, true},
		"pod_labels":        {func(s *Spec) { s.PodLabels = map[string]string{"a": "b"} }, true},
	}
	before := template(minimal())
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := minimal()
			tt.change(&s)
			if got := template(s) != before; got != tt.restarts {
				t.Errorf("restarts: %v, want %v", got, tt.restarts)
			}
		})
	}
}

// A server that joins a cluster which has had a leader must not be able to start its own.
func TestObjects_onlyTheFirstStartExpectsABootstrap(t *testing.T) {
	for _, established := range []bool{false, true} {
		s := minimal()
		s.Established = established
		for key, text := range Objects(s).Config.Data {
			expects := strings.Contains(text, "bootstrap_expect")
			isNode := strings.HasPrefix(key, "consul-server-")
			if want := isNode && !established; expects != want {
				t.Errorf("established %v: %s expects a bootstrap: %v", established, key, expects)
			}
		}
	}
}

func TestCheckExtraConfig(t *testing.T) {
	tests := map[string]string{ // configuration → what the error must say, "" for none
		`{}`:                                    "",
		`{"log_level":"debug"}`:                 "",
		`{"acl":{"down_policy":"deny"}}`:        "",
		`{"limits":{"rpc_rate":5}}`:             "",
		`[]`:                                    "JSON object",
		`"x"`:                                   "JSON object",
		`{`:                                     "not valid JSON",
		`{} {}`:                                 "more than one",
		`{"server":false}`:                      `"server"`,
		`{"Server":false}`:                      `"Server"`,
		`{"datacenter":"x"}`:                    "attribute datacenter",
		`{"acl":{"enabled":true}}`:              "attribute acl.enabled",
		`{"acl":[{"tokens":{"agent":"x"}}]}`:    "consul_k8s_acl_bootstrap",
		`{"ACL":{"Default_Policy":"allow"}}`:    "acl.default_policy",
		`{"performance":{"raft_multiplier":1}}`: "performance.raft_multiplier",
		`{"encrypt":"key"}`:                     `"encrypt"`,
	}
	for config, want := range tests {
		if err := CheckExtraConfig(config); !wanted.Error(err, want) {
			t.Errorf("%s: got %v, want something about %q", config, err, want)
		}
	}
}

func TestNodeID_isStableAndDistinct(t *testing.T) {
	// With another node ID, a server of an existing cluster would be a stranger.
	if got, want := NodeID("consul", "consul", 0), "82fffbcb-4cab-5785-92a1-fbaf17f816d1"; got != want {
		t.Errorf("NodeID = %s, want %s", got, want)
	}
	seen := map[string]bool{}
	for _, cluster := range []string{"a", "b"} {
		for i := range MaxReplicas {
			id := NodeID("ns", cluster, i)
			if seen[id] {
				t.Errorf("%s is used twice", id)
			}
			seen[id] = true
		}
	}
}

func TestParseID(t *testing.T) {
	if ns, name, err := ParseID("a/b"); ns != "a" || name != "b" || err != nil {
		t.Errorf("got %q, %q, %v", ns, name, err)
	}
	for _, id := range []string{"", "a", "/", "a/", "/b", "a/b/c"} {
		if _, _, err := ParseID(id); err == nil {
			t.Errorf("%q was accepted", id)
		}
	}
}

// rendered is the agent configuration of a spec, as it is read back.
func rendered(t *testing.T, s Spec) map[string]any {
	t.Helper()
	config, err := readConfig(marshalConfig(newAgentConfig(s)))
	if err != nil {
		t.Fatal(err)
	}
	return config
}
