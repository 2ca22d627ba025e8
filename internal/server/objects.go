package server

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	dataVolume   = "data"
	configVolume = "config"
	dataDir      = "/consul/data"
	configDir    = "/consul/config"
	podVolume    = "pod"
	podDir       = "/consul/pod"

	waitScriptKey      = "await-peer-removal.sh"
	startScriptKey     = "start.sh"
	superviseScriptKey = "supervise.sh"
	votesScriptKey     = "votes.sh"
	leaveScriptKey     = "leave.sh"
	readyScriptKey     = "ready.sh"
	establishedKey     = "established"
	serversKey         = "servers"
	formerKey          = "former-servers"

	// The user and group of the official image (hashicorp/docker-consul): DefaultRunAs.
	consulUser  = 100
	consulGroup = 1000
)

// ContainerName is the container in which Consul runs, and WaitContainerName is the container before it, in
// which a server without data waits.
const (
	ContainerName     = "consul"
	WaitContainerName = "await-peer-removal"
)

// ResetFile is where the leader looks for the index that allows another bootstrap of ACLs.
const ResetFile = dataDir + "/acl-bootstrap-reset"

// RaftDir has what a server needs to be the same voter again. A server without it has no data.
const RaftDir = dataDir + "/raft"

// RecoveryFile is the marker of a recovery in progress: until when a start uses peers.json (start.sh), as seconds since 1970.
// It is lost with the pod.
const RecoveryFile = "/tmp/recovery"

// NoDataReport is the termination message of the container before a server that waits because it has no data
// (await-peer-removal.sh).
const NoDataReport = "no data"

// Object is a Kubernetes object with its metadata.
type Object interface {
	runtime.Object
	metav1.Object
}

// Set contains all Kubernetes objects of one cluster. A rendered Set is complete. A Set that was read has nil
// for an object that does not exist.
type Set struct {
	Namespace        *corev1.Namespace
	ServiceAccount   *corev1.ServiceAccount
	Config           *corev1.ConfigMap
	PeerService      *corev1.Service
	ClientService    *corev1.Service
	DisruptionBudget *policyv1.PodDisruptionBudget
	StatefulSet      *appsv1.StatefulSet
}

// Declared is the number of declared servers that the servers are told (Spec.Declared), 0 if it is not known.
func (o Set) Declared() int32 {
	if o.Config == nil {
		return 0
	}
	n, _ := strconv.ParseInt(o.Config.Data[serversKey], 10, 32)
	return int32(n)
}

// IsEstablished reports whether the configuration says that the cluster has had
// a leader (Spec.Established).
func (o Set) IsEstablished() bool { return o.Config != nil && o.Config.Data[establishedKey] == "true" }

// All lists the objects in the order in which they are applied: what a pod
// needs comes before the StatefulSet.
func (o Set) All() []Object {
	var all []Object
	if o.Namespace != nil {
		all = append(all, o.Namespace)
	}
	if o.ServiceAccount != nil {
		all = append(all, o.ServiceAccount)
	}
	if o.Config != nil {
		all = append(all, o.Config)
	}
	if o.PeerService != nil {
		all = append(all, o.PeerService)
	}
	if o.ClientService != nil {
		all = append(all, o.ClientService)
	}
	if o.DisruptionBudget != nil {
		all = append(all, o.DisruptionBudget)
	}
	if o.StatefulSet != nil {
		all = append(all, o.StatefulSet)
	}
	return all
}

// Like returns the object of the set with the kind and name of another, nil if
// there is none.
func (o Set) Like(other Object) Object {
	for _, mine := range o.All() {
		if objectKey(mine) == objectKey(other) {
			return mine
		}
	}
	return nil
}

// Objects renders the Kubernetes objects of a cluster.
func Objects(s Spec) Set {
	set := Set{
		ServiceAccount: &corev1.ServiceAccount{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
			ObjectMeta: annotatedMeta(s, StatefulSetName(s.Name), s.ServiceAccountAnnotations),
			// Servers find each other by DNS and never call the Kubernetes API.
			AutomountServiceAccountToken: new(false),
		},
		Config:           configMap(s),
		PeerService:      peerService(s),
		ClientService:    clientService(s),
		DisruptionBudget: disruptionBudget(s),
		StatefulSet:      statefulSet(s),
	}
	if s.CreateNamespace {
		ns := &corev1.Namespace{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
			ObjectMeta: metav1.ObjectMeta{Name: s.Namespace},
		}
		ns.Labels = merged(s.Labels, s.NamespaceLabels, map[string]string{LabelManagedBy: ManagedBy})
		ns.Annotations = merged(s.Annotations, s.NamespaceAnnotations, map[string]string{AnnotationNamespaceOf: s.Name})
		set.Namespace = ns
	}
	return set
}

func meta(s Spec, name string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{
		Name:      name,
		Namespace: s.Namespace,
		Labels:    s.Labeled(OwnerLabels(s.Name)),
	}
	if len(s.Annotations) > 0 {
		m.Annotations = merged(s.Annotations)
	}
	return m
}

// annotatedMeta is meta of an object that has annotations of its own.
func annotatedMeta(s Spec, name string, own map[string]string) metav1.ObjectMeta {
	m := meta(s, name)
	if len(own) > 0 {
		m.Annotations = merged(s.Annotations, own)
	}
	return m
}

func configMap(s Spec) *corev1.ConfigMap {
	cm := &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: meta(s, StatefulSetName(s.Name)),
		Data: merged(s.FormerConfig, map[string]string{
			ConfigKey(s):       marshalConfig(newAgentConfig(s)),
			extraKey(s):        "{}",
			waitScriptKey:      waitScript,
			startScriptKey:     startScript,
			superviseScriptKey: superviseScript,
			votesScriptKey:     votesScript,
			leaveScriptKey:     leaveScript,
			serversKey:         strconv.Itoa(int(cmp.Or(s.Declared, s.Replicas))),
			readyScriptKey:     readyScript,
		}),
	}
	if s.ExtraConfig != "" {
		cm.Data[extraKey(s)] = s.ExtraConfig
	}
	if s.Established {
		cm.Data[establishedKey] = "true"
	}
	if s.Takeover != nil {
		cm.Data[formerKey] = s.Takeover.hosts()
	}
	// Every possible ordinal, so that scaling does not touch the configuration.
	for i := range MaxReplicas {
		cm.Data[PodName(s.Name, i)+".json"] = marshalConfig(newNodeConfig(s, i))
	}
	return cm
}

func peerService(s Spec) *corev1.Service {
	return withHTTPS(s, &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: meta(s, StatefulSetName(s.Name)),
		Spec: corev1.ServiceSpec{
			ClusterIP: corev1.ClusterIPNone,
			// Servers join before they are ready.
			PublishNotReadyAddresses: true,
			Selector:                 SelectorLabels(s.Name),
			Ports: []corev1.ServicePort{
				port("http", PortHTTP, intstr.FromString("http"), corev1.ProtocolTCP),
				port("server", PortServer, intstr.FromString("server"), corev1.ProtocolTCP),
				port("serf-lan-tcp", PortSerfLAN, intstr.FromString("serf-lan-tcp"), corev1.ProtocolTCP),
				port("serf-lan-udp", PortSerfLAN, intstr.FromString("serf-lan-udp"), corev1.ProtocolUDP),
			},
		},
	})
}

// withHTTPS adds the port of HTTPS if the servers serve it, and removes the port of HTTP if they only serve
// HTTPS.
func withHTTPS(s Spec, service *corev1.Service) *corev1.Service {
	if s.TLS.onlyHTTPS() {
		service.Spec.Ports = slices.DeleteFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == "http" })
	}
	if s.TLS.Stage != StagePlain {
		service.Spec.Ports = append(service.Spec.Ports, port("https", s.TLS.httpsPort(), intstr.FromString("https"), corev1.ProtocolTCP))
	}
	return service
}

func clientService(s Spec) *corev1.Service {
	svc := &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: annotatedMeta(s, ClientServiceName(s.Name), s.Service.Annotations),
		Spec: corev1.ServiceSpec{
			Type:     corev1.ServiceType(s.Service.Type),
			Selector: clientSelector(s),
			Ports: []corev1.ServicePort{
				port("http", PortHTTP, intstr.FromString("http"), corev1.ProtocolTCP),
				port("dns-tcp", 53, intstr.FromString("dns-tcp"), corev1.ProtocolTCP),
				port("dns-udp", 53, intstr.FromString("dns-udp"), corev1.ProtocolUDP),
			},
			LoadBalancerSourceRanges: s.Service.LoadBalancerSourceRanges,
		},
	}
	if s.Service.LoadBalancerClass != "" {
		svc.Spec.LoadBalancerClass = &s.Service.LoadBalancerClass
	}
	svc.Spec.ClusterIP = s.Service.ClusterIP
	svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicy(s.Service.ExternalTrafficPolicy)
	for _, f := range s.Service.IPFamilies {
		svc.Spec.IPFamilies = append(svc.Spec.IPFamilies, corev1.IPFamily(f))
	}
	if s.Service.IPFamilyPolicy != "" {
		svc.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicy(s.Service.IPFamilyPolicy))
	}
	svc = withHTTPS(s, svc)
	for i := range svc.Spec.Ports {
		if p := s.Service.nodePort(svc.Spec.Ports[i].Name); p != nil {
			svc.Spec.Ports[i].NodePort = *p
		}
	}
	return svc
}

// nodePort is the port on every node that belongs to a port of the client Service.
func (s *Service) nodePort(name string) *int32 {
	switch name {
	case "http":
		return &s.NodePorts.HTTP
	case "https":
		return &s.NodePorts.HTTPS
	case "dns-tcp", "dns-udp":
		return &s.NodePorts.DNS
	}
	return nil
}

func port(name string, port int32, target intstr.IntOrString, protocol corev1.Protocol) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: port, TargetPort: target, Protocol: protocol}
}

func disruptionBudget(s Spec) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		TypeMeta:   metav1.TypeMeta{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"},
		ObjectMeta: meta(s, StatefulSetName(s.Name)),
		Spec: policyv1.PodDisruptionBudgetSpec{
			// One at a time keeps the quorum of three, five and seven servers. A
			// single server can only be drained with an interruption.
			MaxUnavailable: new(intstr.FromInt32(1)),
			Selector:       &metav1.LabelSelector{MatchLabels: SelectorLabels(s.Name)},
		},
	}
}

func statefulSet(s Spec) *appsv1.StatefulSet {
	claim := corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: dataVolume, Labels: s.Labeled(OwnerLabels(s.Name))},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceStorage: s.Storage.Size},
			},
			StorageClassName: s.Storage.ClassName(),
		},
	}
	m := meta(s, StatefulSetName(s.Name))
	m.Annotations = merged(s.Annotations, map[string]string{
		AnnotationDatacenter:         s.Datacenter,
		AnnotationDeletionProtection: strconv.FormatBool(s.DeletionProtection),
		AnnotationUpdate:             compactJSON(s.Update),
		AnnotationAutopilot:          compactJSON(s.Autopilot),
	})
	if s.Creating {
		m.Annotations[AnnotationCreating] = "true"
	}
	if s.UpgradeSnapshot != nil {
		m.Annotations[AnnotationUpgradeSnapshot] = compactJSON(s.UpgradeSnapshot)
	}
	if s.Origin != nil {
		m.Annotations[AnnotationOrigin] = compactJSON(s.Origin)
	}
	if jobs := compactJSON(s.Jobs); jobs != "{}" {
		m.Annotations[AnnotationJobs] = jobs
	}
	if s.Resizing {
		m.Annotations[AnnotationResizing] = "true"
	}
	if s.Storage.OnChange == RebuildServers {
		m.Annotations[AnnotationOnStorageChange] = RebuildServers
	}
	if g := (gossipSettings{s.Gossip.KeySecret, s.Gossip.Rotation}); g != (gossipSettings{}) {
		m.Annotations[AnnotationGossip] = compactJSON(g)
	}
	if !s.TLS.equal(DefaultTLS) {
		m.Annotations[AnnotationTLS] = compactJSON(s.TLS.TLSSettings)
	}
	if s.Pod.Extra != "" {
		m.Annotations[AnnotationExtraPod] = s.Pod.Extra
	}
	annotateAdopt(m.Annotations, s)
	return &appsv1.StatefulSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "StatefulSet"},
		ObjectMeta: m,
		Spec: appsv1.StatefulSetSpec{
			Replicas:    &s.Replicas,
			ServiceName: StatefulSetName(s.Name),
			Selector:    &metav1.LabelSelector{MatchLabels: SelectorLabels(s.Name)},
			// No server waits for another one to be ready: no server is ready before there is a leader.
			PodManagementPolicy: appsv1.ParallelPodManagement,
			// The rollout restarts servers, because it knows the leader and the quorum.
			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType},
			PersistentVolumeClaimRetentionPolicy: &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
				WhenDeleted: appsv1.PersistentVolumeClaimRetentionPolicyType(s.Storage.WhenDeleted),
				WhenScaled:  appsv1.PersistentVolumeClaimRetentionPolicyType(s.Storage.WhenScaled),
			},
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{claim},
			Template:             podTemplate(s),
		},
	}
}

func podTemplate(s Spec) corev1.PodTemplateSpec {
	t := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Labels:      merged(s.PodLabels, OwnerLabels(s.Name), map[string]string{LabelVersion: s.Version, LabelServing: "true"}),
			Annotations: merged(s.PodAnnotations, map[string]string{AnnotationConfigHash: configHash(s), AnnotationImage: s.Image}),
		},
		Spec: podSpec(s),
	}
	t.Annotations[AnnotationPodHash] = podHash(t)
	t.Annotations[AnnotationTemplateHash] = shortHash([]byte(compactJSON(t)))
	return t
}

// TemplateHash is the digest that every pod made from the template of a spec has
// among its annotations (AnnotationTemplateHash).
func TemplateHash(s Spec) string { return podTemplate(s).Annotations[AnnotationTemplateHash] }

func podSpec(s Spec) corev1.PodSpec {
	restricted := &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		ReadOnlyRootFilesystem:   new(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	env := []corev1.EnvVar{
		{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
		{Name: "POD_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
	}
	resources := s.Resources.Requirements()
	mounts := []corev1.VolumeMount{
		{Name: dataVolume, MountPath: dataDir},
		{Name: configVolume, MountPath: configDir, ReadOnly: true},
		{Name: "tmp", MountPath: "/tmp"}, // Consul spools snapshots there
	}
	podMounts := []corev1.VolumeMount{{Name: podVolume, MountPath: podDir, ReadOnly: true}}
	keyring, keyringMounts := gossipVolume(s)
	certificates, certificateMounts := tlsVolumes(s)
	spec := corev1.PodSpec{
		ServiceAccountName:            StatefulSetName(s.Name),
		AutomountServiceAccountToken:  new(false),
		EnableServiceLinks:            new(false),
		TerminationGracePeriodSeconds: new(gracePeriodSeconds(s)),
		PriorityClassName:             s.Placement.PriorityClass,
		NodeSelector:                  s.Placement.NodeSelector,
		Tolerations:                   s.Placement.Tolerations,
		Affinity:                      affinity(s),
		TopologySpreadConstraints:     topologySpread(s),
		SecurityContext:               s.Pod.securityContext(),
		InitContainers: []corev1.Container{{
			Name:            WaitContainerName,
			Image:           s.Image,
			ImagePullPolicy: corev1.PullIfNotPresent,
			Command:         []string{"/bin/sh", configDir + "/" + waitScriptKey},
			Args:            waitArgs(s),
			Env:             env,
			Resources:       resources,
			SecurityContext: restricted,
			VolumeMounts:    slices.Concat(mounts, certificateMounts),
			// Errors quote what a container prints at its end.
			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		}},
		Containers: []corev1.Container{{
			Name:            ContainerName,
			Image:           s.Image,
			ImagePullPolicy: corev1.PullIfNotPresent,
			// The image's entry point is not used: it wants to change file owners.
			Command: []string{"/bin/sh", configDir + "/" + superviseScriptKey, "agent", "-advertise=$(POD_IP)"},
			Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{
				Command: []string{
					"/bin/sh",
					configDir + "/" + leaveScriptKey,
					strconv.FormatFloat(s.Performance.LeaveDrainTime.Seconds(), 'f', -1, 64),
				},
			}}},
			Env:             env,
			Resources:       resources,
			SecurityContext: restricted,
			VolumeMounts:    slices.Concat(mounts, podMounts, keyringMounts, certificateMounts),

			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
			Ports: []corev1.ContainerPort{
				{Name: "http", ContainerPort: PortHTTP, Protocol: corev1.ProtocolTCP},
				{Name: "server", ContainerPort: PortServer, Protocol: corev1.ProtocolTCP},
				{Name: "serf-lan-tcp", ContainerPort: PortSerfLAN, Protocol: corev1.ProtocolTCP},
				{Name: "serf-lan-udp", ContainerPort: PortSerfLAN, Protocol: corev1.ProtocolUDP},
				{Name: "dns-tcp", ContainerPort: PortDNS, Protocol: corev1.ProtocolTCP},
				{Name: "dns-udp", ContainerPort: PortDNS, Protocol: corev1.ProtocolUDP},
			},
			// Startup: the server has its vote. It answers only after it has replayed its
			// snapshot, so a large store gets twenty minutes.
			StartupProbe: startupProbe(),
			// Liveness: the process still answers, with or without a leader. The loss of the leader must never
			// make Kubernetes kill the servers that could elect one.
			LivenessProbe: httpProbe(s, livePath, 10, 6, 5),
			// Readiness: the leader answers through this server.
			ReadinessProbe: readinessProbe(s),
		}},
		Volumes: slices.Concat([]corev1.Volume{
			{Name: configVolume, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: StatefulSetName(s.Name)},
			}}},
			{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: podVolume, VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{
				Items: []corev1.DownwardAPIVolumeFile{
					annotationFile("config-hash", AnnotationConfigHash), annotationFile("restart", AnnotationRestart),
				},
			}}},
		}, keyring, certificates),
	}
	if !s.Pod.Separate {
		spec.ShareProcessNamespace = new(true) // containers of extra_pod and debug containers then see Consul
	}
	s.Pod.apply(&spec)
	if s.TLS.Stage != StagePlain {
		c := &spec.Containers[0]
		c.Ports = append(c.Ports, corev1.ContainerPort{Name: "https", ContainerPort: s.TLS.httpsPort(), Protocol: corev1.ProtocolTCP})
	}
	return spec
}

// annotationFile is a file with the value of an annotation, which is empty without that annotation.
func annotationFile(name, annotation string) corev1.DownwardAPIVolumeFile {
	return corev1.DownwardAPIVolumeFile{
		Path: name, FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['" + annotation + "']"},
	}
}

// waitArgs are the arguments of the script that waits for the removal of peers.
func waitArgs(s Spec) []string {
	args := []string{StatefulSetName(s.Name), s.Namespace}
	if s.TLS.Stage != StagePlain {
		args = append(args, TLSServerName(s), strconv.Itoa(s.TLS.HTTPSPort))
	}
	return args
}

// gracePeriodSeconds covers a graceful leave: the stop hook with its drain, and, if that did not succeed, up to
// 15s until the agent gives up another leave (command/agent/agent.go of Consul, gracefulTimeout).
func gracePeriodSeconds(s Spec) int64 {
	return int64(math.Ceil(s.Performance.LeaveDrainTime.Seconds())) + int64((35 * time.Second).Seconds())
}

func affinity(s Spec) *corev1.Affinity {
	term := corev1.PodAffinityTerm{
		LabelSelector: &metav1.LabelSelector{MatchLabels: SelectorLabels(s.Name)},
		TopologyKey:   corev1.LabelHostname,
	}
	if s.Placement.AntiAffinity == AntiAffinityPreferred {
		return &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 100, PodAffinityTerm: term}},
		}}
	}
	return &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term},
	}}
}

func topologySpread(s Spec) []corev1.TopologySpreadConstraint {
	var out []corev1.TopologySpreadConstraint
	for _, t := range s.Placement.TopologySpread {
		out = append(out, corev1.TopologySpreadConstraint{
			MaxSkew:           t.MaxSkew,
			TopologyKey:       t.TopologyKey,
			WhenUnsatisfiable: corev1.UnsatisfiableConstraintAction(t.WhenUnsatisfiable),
			LabelSelector:     &metav1.LabelSelector{MatchLabels: SelectorLabels(s.Name)},
		})
	}
	return out
}

func resourceList(m map[string]resource.Quantity) corev1.ResourceList {
	if len(m) == 0 {
		return nil
	}
	out := corev1.ResourceList{}
	for k, v := range m {
		out[corev1.ResourceName(k)] = v
	}
	return out
}
