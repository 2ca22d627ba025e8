package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ErrNoStatefulSet says that a cluster's StatefulSet does not exist: there is
// no cluster, whatever else is left of it.
var ErrNoStatefulSet = errors.New("the StatefulSet does not exist")

// Parse reads a Spec back from the objects of a live cluster; it is the inverse
// of Objects. Objects other than the StatefulSet may be missing or unreadable:
// what they hold is then taken from known, what was declared last, and Drift
// names them. Labels and annotations that other field managers own are left out.
func Parse(live Set, known Spec) (Spec, error) {
	sts := live.StatefulSet
	if sts == nil {
		return Spec{}, ErrNoStatefulSet
	}
	cluster := sts.Labels[LabelInstance]
	if !Owns(cluster, sts.Labels) || sts.Name != StatefulSetName(cluster) {
		return Spec{}, fmt.Errorf("the StatefulSet %s/%s was not made by this provider: it lacks the label %s=%s", sts.Namespace, sts.Name, LabelManagedBy, ManagedBy)
	}
	s := Spec{
		Name:            cluster,
		Namespace:       sts.Namespace,
		CreateNamespace: known.CreateNamespace,
	}
	if live.Namespace != nil { // it may be that it must not be read
		s.CreateNamespace = live.Namespace.Annotations[AnnotationNamespaceOf] == cluster
	}
	if sts.Spec.Replicas != nil {
		s.Replicas = *sts.Spec.Replicas
	}
	s.Labels = ownedEntries(sts.ManagedFields, sts.Labels, "f:labels")
	for k := range OwnerLabels(cluster) {
		delete(s.Labels, k)
	}
	s.Annotations = ownedEntries(sts.ManagedFields, sts.Annotations, "f:annotations")
	delete(s.Annotations, AnnotationCreating)
	delete(s.Annotations, AnnotationDeletionProtection)
	delete(s.Annotations, AnnotationDatacenter)
	s.Creating = sts.Annotations[AnnotationCreating] == "true"
	s.DeletionProtection = sts.Annotations[AnnotationDeletionProtection] != "false"
	parseTemplate(&s, sts.Spec.Template, known)
	parseStorage(&s, sts.Spec.VolumeClaimTemplates)
	if p := sts.Spec.PersistentVolumeClaimRetentionPolicy; p != nil {
		s.Storage.WhenDeleted, s.Storage.WhenScaled = string(p.WhenDeleted), string(p.WhenScaled)
	}
	parseConfig(&s, live.Config, known)
	if s.Datacenter = sts.Annotations[AnnotationDatacenter]; s.Datacenter == "" {
		s.Datacenter = known.Datacenter
	}
	s.Service = known.Service
	if svc := live.ClientService; svc != nil {
		s.Service = Service{Type: string(svc.Spec.Type)}
		s.Service.Annotations = ownedEntries(svc.ManagedFields, svc.Annotations, "f:annotations")
		for k, v := range s.Annotations {
			if _, declared := known.Service.Annotations[k]; s.Service.Annotations[k] == v && !declared {
				delete(s.Service.Annotations, k)
			}
		}
		if c := svc.Spec.LoadBalancerClass; c != nil {
			s.Service.LoadBalancerClass = *c
		}
		s.Service.LoadBalancerSourceRanges = slices.Clone(svc.Spec.LoadBalancerSourceRanges)
	}
	return s, nil
}

// restartedAt is what kubectl rollout restart leaves on the template.
const restartedAt = "kubectl.kubernetes.io/restartedAt"

func parseTemplate(s *Spec, t corev1.PodTemplateSpec, known Spec) {
	s.PodLabels = maps.Clone(t.Labels)
	for k := range OwnerLabels(s.Name) {
		delete(s.PodLabels, k)
	}
	s.Version = t.Labels[LabelVersion]
	delete(s.PodLabels, LabelVersion)
	s.PodAnnotations = maps.Clone(t.Annotations)
	delete(s.PodAnnotations, AnnotationConfigHash)
	if _, declared := known.PodAnnotations[restartedAt]; !declared {
		delete(s.PodAnnotations, restartedAt)
	}

	for _, c := range t.Spec.Containers {
		if c.Name != ContainerName {
			continue
		}
		s.Image = c.Image
		s.Resources = Resources{Requests: quantities(c.Resources.Requests), Limits: quantities(c.Resources.Limits)}
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
		if c.Spec.StorageClassName != nil {
			s.Storage.Class = *c.Spec.StorageClassName
		}
	}
}

func parseConfig(s *Spec, cm *corev1.ConfigMap, known Spec) {
	var c agentConfig
	if cm == nil || json.Unmarshal([]byte(cm.Data[configKey]), &c) != nil {
		s.Domain, s.Performance, s.Telemetry, s.UI, s.ACL = known.Domain, known.Performance, known.Telemetry, known.UI, known.ACL
		s.ExtraConfig = known.ExtraConfig
		// Nobody knows; that it had a leader is the safe guess.
		s.Established = true
		return
	}
	s.Domain = c.Domain
	s.Performance = Performance{
		RaftMultiplier: c.Performance.RaftMultiplier,
		LeaveDrainTime: parseDuration(c.Performance.LeaveDrainTime),
		RPCHoldTimeout: parseDuration(c.Performance.RPCHoldTimeout),
	}
	if c.Telemetry != nil {
		s.Telemetry.PrometheusRetentionTime = parseDuration(c.Telemetry.PrometheusRetentionTime)
	}
	s.UI = c.UI.Enabled
	s.ACL = ACL{Enabled: c.ACL.Enabled, DefaultPolicy: c.ACL.DefaultPolicy}
	if extra := cm.Data[extraKey]; extra != "{}" || known.ExtraConfig == extra {
		s.ExtraConfig = extra
	}
	s.Established = cm.Data[establishedKey] == "true"
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

// ownedEntries keeps the entries of m, metadata labels or annotations, that this
// provider's field manager owns. An object without managed fields was rendered
// and not read: all of it is owned.
func ownedEntries(fields []metav1.ManagedFieldsEntry, m map[string]string, kind string) map[string]string {
	if len(fields) == 0 {
		return maps.Clone(m)
	}
	out := map[string]string{}
	for _, f := range fields {
		if f.Manager != ManagedBy || f.FieldsV1 == nil {
			continue
		}
		var owned struct {
			Metadata map[string]map[string]any `json:"f:metadata"`
		}
		if json.Unmarshal(f.FieldsV1.GetRawBytes(), &owned) != nil {
			continue
		}
		for k := range owned.Metadata[kind] {
			key, ok := trimFieldPrefix(k)
			if v, exists := m[key]; ok && exists {
				out[key] = v
			}
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func trimFieldPrefix(k string) (string, bool) {
	if len(k) > 2 && k[:2] == "f:" {
		return k[2:], true
	}
	return "", false
}
