package server

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// ErrNoStatefulSet says that a cluster's StatefulSet does not exist: there is
// no cluster, whatever else is left of it.
var ErrNoStatefulSet = errors.New("the StatefulSet does not exist")

// Parse reads a Spec back from the objects of a live cluster; it is the inverse of Objects. Objects other than
// the StatefulSet may be missing or unreadable: their contents are then taken from known, which was declared
// last, and Drift names them. Labels and annotations that others added are left out.
func Parse(live Set, known Spec) (Spec, error) {
	sts := live.StatefulSet
	if sts == nil {
		return Spec{}, ErrNoStatefulSet
	}
	cluster := sts.Labels[LabelInstance]
	if !Owns(cluster, sts.Labels) || sts.Name != StatefulSetName(cluster) {
		return Spec{}, fmt.Errorf(
			"this provider did not create the StatefulSet %s/%s, which does not have the label %s=%s",
			sts.Namespace,
			sts.Name,
			LabelManagedBy,
			ManagedBy,
		)
	}
	s := Spec{
		Name:            cluster,
		Namespace:       sts.Namespace,
		CreateNamespace: known.CreateNamespace,
	}
	if live.Namespace != nil { // it may be nil because it may not be read
		s.CreateNamespace = live.Namespace.Annotations[AnnotationNamespaceOf] == cluster
	}
	if sts.Spec.Replicas != nil {
		s.Replicas = *sts.Spec.Replicas
	}
	s.Labels = declaredLabels(sts, known.Labels)
	s.Annotations = ownedEntries(sts.ManagedFields, sts.Annotations, known.Annotations, "metadata", "annotations")
	delete(s.Annotations, AnnotationCreating)
	delete(s.Annotations, AnnotationRecovering)
	delete(s.Annotations, AnnotationDeletionProtection)
	delete(s.Annotations, AnnotationDatacenter)
	s.Update = annotated(sts.Annotations[AnnotationUpdate], DefaultUpdate)
	delete(s.Annotations, AnnotationUpdate)
	s.Jobs = annotated(sts.Annotations[AnnotationJobs], JobSettings{})
	delete(s.Annotations, AnnotationJobs)
	s.Autopilot = annotated(sts.Annotations[AnnotationAutopilot], DefaultAutopilot)
	delete(s.Annotations, AnnotationAutopilot)
	gossip := annotated(sts.Annotations[AnnotationGossip], gossipSettings{})
	s.Gossip.KeySecret, s.Gossip.Rotation = gossip.KeySecret, gossip.Rotation
	delete(s.Annotations, AnnotationGossip)
	s.TLS.TLSSettings = annotated(sts.Annotations[AnnotationTLS], DefaultTLS)
	delete(s.Annotations, AnnotationTLS)
	s.Pod.Extra = sts.Annotations[AnnotationExtraPod]
	delete(s.Annotations, AnnotationExtraPod)
	s.UpgradeSnapshot = annotated[*Snapshot](sts.Annotations[AnnotationUpgradeSnapshot], nil)
	delete(s.Annotations, AnnotationUpgradeSnapshot)
	s.Origin = ParseOrigin(sts.Annotations)
	delete(s.Annotations, AnnotationOrigin)
	s.Restored = sts.Annotations[AnnotationRestored]
	delete(s.Annotations, AnnotationRestored)
	delete(s.Annotations, AnnotationResizing)
	delete(s.Annotations, AnnotationOnStorageChange)
	s.Creating = sts.Annotations[AnnotationCreating] == "true"
	s.Resizing = sts.Annotations[AnnotationResizing] == "true"
	s.Storage.OnChange = cmp.Or(sts.Annotations[AnnotationOnStorageChange], GrowVolumes)
	s.Adopt, s.Takeover = parseAdopt(sts.Annotations)
	delete(s.Annotations, AnnotationAdopt)
	delete(s.Annotations, AnnotationTakeover)
	s.DeletionProtection = sts.Annotations[AnnotationDeletionProtection] != "false"
	parseNamespace(&s, live.Namespace, known)
	s.ServiceAccountAnnotations = known.ServiceAccountAnnotations
	if sa := live.ServiceAccount; sa != nil {
		s.ServiceAccountAnnotations = ownedEntries(sa.ManagedFields, sa.Annotations, known.ServiceAccountAnnotations, "metadata", "annotations")
		dropCommon(s.ServiceAccountAnnotations, s.Annotations, known.Annotations, known.ServiceAccountAnnotations)
	}
	parseTemplate(&s, sts, known)
	parseStorage(&s, sts.Spec.VolumeClaimTemplates)
	if p := sts.Spec.PersistentVolumeClaimRetentionPolicy; p != nil {
		s.Storage.WhenDeleted, s.Storage.WhenScaled = string(p.WhenDeleted), string(p.WhenScaled)
	}
	parseConfig(&s, live.Config, known, sts.Spec.Template.Annotations[AnnotationConfigHash])
	if s.Datacenter = sts.Annotations[AnnotationDatacenter]; s.Datacenter == "" {
		s.Datacenter = known.Datacenter
	}
	s.Service = known.Service
	if svc := live.ClientService; svc != nil {
		s.Service = Service{Type: string(svc.Spec.Type)}
		s.Service.Annotations = ownedEntries(svc.ManagedFields, svc.Annotations, known.Service.Annotations, "metadata", "annotations")
		dropCommon(s.Service.Annotations, s.Annotations, known.Annotations, known.Service.Annotations)
		// If no class is declared, the webhook of a load balancer may choose one permanently.
		if c := svc.Spec.LoadBalancerClass; c != nil &&
			(known.Service.LoadBalancerClass != "" || owns(svc.ManagedFields, "spec", "loadBalancerClass")) {
			s.Service.LoadBalancerClass = *c
		}
		s.Service.LoadBalancerSourceRanges = slices.Clone(svc.Spec.LoadBalancerSourceRanges)
		parseAddresses(&s.Service, svc, known.Service)
	}
	return s, nil
}

// parseAddresses reads the addresses of a Service that are declared: Kubernetes fills in the others.
func parseAddresses(s *Service, svc *corev1.Service, known Service) {
	declared := func(known bool, field string) bool { return known || owns(svc.ManagedFields, "spec", field) }
	if declared(known.ClusterIP != "", "clusterIP") {
		s.ClusterIP = svc.Spec.ClusterIP
	}
	if declared(known.ExternalTrafficPolicy != "", "externalTrafficPolicy") {
		s.ExternalTrafficPolicy = string(svc.Spec.ExternalTrafficPolicy)
	}
	if p := svc.Spec.IPFamilyPolicy; p != nil && declared(known.IPFamilyPolicy != "", "ipFamilyPolicy") {
		s.IPFamilyPolicy = string(*p)
	}
	if declared(len(known.IPFamilies) > 0, "ipFamilies") {
		for _, f := range svc.Spec.IPFamilies {
			s.IPFamilies = append(s.IPFamilies, string(f))
		}
	}
	for _, p := range svc.Spec.Ports {
		port := s.nodePort(p.Name)
		if port == nil || p.NodePort == 0 {
			continue
		}
		if *known.nodePort(p.Name) != 0 || ownsNodePort(svc.ManagedFields, p) {
			*port = p.NodePort
		}
	}
}

// parseNamespace reads the labels and annotations that only a namespace has which the cluster created.
func parseNamespace(s *Spec, ns *corev1.Namespace, known Spec) {
	if !s.CreateNamespace {
		return
	}
	s.NamespaceLabels, s.NamespaceAnnotations = known.NamespaceLabels, known.NamespaceAnnotations
	if ns == nil {
		return
	}
	s.NamespaceLabels = ownedEntries(ns.ManagedFields, ns.Labels, known.NamespaceLabels, "metadata", "labels")
	delete(s.NamespaceLabels, LabelManagedBy)
	dropCommon(s.NamespaceLabels, s.Labels, known.Labels, known.NamespaceLabels)
	s.NamespaceAnnotations = ownedEntries(ns.ManagedFields, ns.Annotations, known.NamespaceAnnotations, "metadata", "annotations")
	delete(s.NamespaceAnnotations, AnnotationNamespaceOf)
	dropCommon(s.NamespaceAnnotations, s.Annotations, known.Annotations, known.NamespaceAnnotations)
}

// dropCommon removes from the labels or annotations of an object those that every object has, unless they are also declared
// for this object. common is what all objects have, and known is what was declared last, which somebody may have changed on
// one object only.
func dropCommon(own, common, known, declared map[string]string) {
	for _, m := range []map[string]string{common, known} {
		for k, v := range m {
			if _, ok := declared[k]; own[k] == v && !ok {
				delete(own, k)
			}
		}
	}
}

// annotated reads a value from an annotation. If the annotation or a part of it is missing or not readable, the
// default applies.
func annotated[T any](text string, def T) T {
	v := def
	if json.Unmarshal([]byte(text), &v) != nil {
		return def
	}
	return v
}

func parseTemplate(s *Spec, sts *appsv1.StatefulSet, known Spec) {
	t := sts.Spec.Template
	s.PodLabels = ownedEntries(sts.ManagedFields, t.Labels, known.PodLabels, "spec", "template", "metadata", "labels")
	for k := range OwnerLabels(s.Name) {
		delete(s.PodLabels, k)
	}
	s.Version = t.Labels[LabelVersion]
	delete(s.PodLabels, LabelVersion)
	delete(s.PodLabels, LabelServing)
	s.PodAnnotations = ownedEntries(sts.ManagedFields, t.Annotations, known.PodAnnotations, "spec", "template", "metadata", "annotations")
	for _, own := range []string{AnnotationConfigHash, AnnotationImage, AnnotationPodHash, AnnotationTemplateHash} {
		delete(s.PodAnnotations, own)
	}

	for _, c := range t.Spec.Containers {
		if c.Name != ContainerName {
			continue
		}
		s.Image = c.Image
		s.Resources = Resources{Requests: quantities(c.Resources.Requests), Limits: quantities(c.Resources.Limits)}
	}
	if c := t.Spec.SecurityContext; c != nil {
		s.Pod.RunAs = NewRunAs(RunAs{User: c.RunAsUser, Group: c.RunAsGroup, FSGroup: c.FSGroup})
	} else {
		s.Pod.RunAs = &RunAs{}
	}
	s.Pod.Separate = t.Spec.ShareProcessNamespace == nil || !*t.Spec.ShareProcessNamespace
	for _, r := range t.Spec.ImagePullSecrets {
		s.Pod.PullSecrets = append(s.Pod.PullSecrets, r.Name)
	}
	s.Placement = Placement{
		NodeSelector:  maps.Clone(t.Spec.NodeSelector),
		Tolerations:   slices.Clone(t.Spec.Tolerations),
		PriorityClass: t.Spec.PriorityClassName,
	}
	if a := t.Spec.Affinity; a != nil && a.PodAntiAffinity != nil {
		if len(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
			s.Placement.AntiAffinity = AntiAffinityRequired
		} else if len(a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution) > 0 {
			s.Placement.AntiAffinity = AntiAffinityPreferred
		}
	}
	for _, c := range t.Spec.TopologySpreadConstraints {
		s.Placement.TopologySpread = append(s.Placement.TopologySpread, TopologySpread{
			TopologyKey: c.TopologyKey, MaxSkew: c.MaxSkew, WhenUnsatisfiable: string(c.WhenUnsatisfiable),
		})
	}
}

func parseStorage(s *Spec, claims []corev1.PersistentVolumeClaim) {
	for _, c := range claims {
		if c.Name != dataVolume {
			continue
		}
		s.Storage.Size = c.Spec.Resources.Requests[corev1.ResourceStorage]
		if name := c.Spec.StorageClassName; name != nil {
			s.Storage.Class, s.Storage.NoClass = *name, *name == ""
		}
	}
}

// SameVolumes reports whether two StatefulSets create the same volumes. Kubernetes does not allow changing this
// in a StatefulSet.
func SameVolumes(a, b *appsv1.StatefulSet) bool {
	var x, y Spec
	parseStorage(&x, a.Spec.VolumeClaimTemplates)
	parseStorage(&y, b.Spec.VolumeClaimTemplates)
	return x.Storage.Size.Cmp(y.Storage.Size) == 0 && x.Storage.Class == y.Storage.Class && x.Storage.NoClass == y.Storage.NoClass
}

// parseConfig reads the configuration that the pod template names by its digest.
func parseConfig(s *Spec, cm *corev1.ConfigMap, known Spec, hash string) {
	if cm != nil {
		s.FormerConfig = formerConfig(cm, hash, func(string) bool { return true })
	}
	if cm == nil || s.readSettings(cm.Data[configKeyOf(hash)]) != nil {
		for _, setting := range settings() {
			if setting.isRead() {
				setting.Set(s, setting.Get(known))
			}
		}
		s.Gossip.Stage, s.TLS.Stage = known.Gossip.Stage, known.TLS.Stage
		s.ExtraConfig = known.ExtraConfig
		// This is not known. To assume that there was a leader is safe.
		s.Established = true
		return
	}
	if extra := cm.Data[extraKeyOf(hash)]; extra != "{}" || known.ExtraConfig == extra {
		s.ExtraConfig = extra
	}
	s.Established = cm.Data[establishedKey] == "true"
}

// isRead reports whether the agent configuration, and not an annotation, has the value.
func (s Setting) isRead() bool { return s.Name != "" && s.key != "" && s.effect != Write }

// readSettings reads the settings in the text of an agent configuration.
func (s *Spec) readSettings(text string) error {
	config, err := readConfig(text)
	if err != nil {
		return err
	}
	for _, setting := range settings() {
		if !setting.isRead() {
			continue
		}
		v, err := setting.read(valueAt(config, setting.key))
		if err != nil {
			return err
		}
		setting.Set(s, v)
	}
	s.Gossip.Stage, s.TLS.Stage = gossipStage(config), tlsStage(config)
	return nil
}

// read is the inverse of rendered. Without a value in the configuration, v is nil.
func (s Setting) read(v any) (any, error) {
	if v == nil {
		return s.missing, nil
	}
	switch s.Default().(type) {
	case int64:
		if n, ok := v.(json.Number); ok {
			return n.Int64()
		}
	case time.Duration:
		if text, ok := v.(string); ok {
			return parseDuration(text), nil
		}
	case string:
		if text, ok := v.(string); ok {
			return text, nil
		}
	case bool:
		if b, ok := v.(bool); ok {
			return b, nil
		}
	}
	return nil, fmt.Errorf("%s is %v, which is not of the type %T", s.key, v, s.Default())
}

// readConfig decodes the text of an agent configuration.
func readConfig(text string) (map[string]any, error) {
	if !json.Valid([]byte(text)) {
		return nil, errors.New("the agent configuration is not valid JSON")
	}
	var config map[string]any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&config); err != nil {
		return nil, fmt.Errorf("decoding agent configuration: %w", err)
	}
	return unlisted(config), nil
}

// valueAt is the value at a path of agent configuration, nil if the path does not exist.
func valueAt(config map[string]any, path string) any {
	key, rest, isNested := strings.Cut(path, ".")
	if !isNested {
		return config[key]
	}
	block, _ := config[key].(map[string]any)
	return valueAt(block, rest)
}

func quantities(l corev1.ResourceList) map[string]resource.Quantity {
	if len(l) == 0 {
		return nil
	}
	out := map[string]resource.Quantity{}
	for k, v := range l {
		out[string(k)] = v
	}
	return out
}
