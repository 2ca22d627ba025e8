package server

import (
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// A change of the image and of the agent's configuration reaches a server in its pod (supervise.sh): annotations name the configuration
// and ask for the restart, and Kubernetes allows changing the image of a running pod. The provider then gives the pod the labels and the
// digest of the template, so that it is what the template would make. Every other change requires a new pod.

// MetaRestart is the node metadata in which an agent reports the request with which it was started (AnnotationRestart).
const MetaRestart = ManagedBy + "-restart"

// podHash is AnnotationPodHash: a digest of a template without what a running pod takes over.
func podHash(t corev1.PodTemplateSpec) string {
	t = *t.DeepCopy()
	delete(t.Labels, LabelVersion)
	delete(t.Annotations, AnnotationConfigHash)
	delete(t.Annotations, AnnotationImage)
	for _, list := range [][]corev1.Container{t.Spec.InitContainers, t.Spec.Containers} {
		for i := range list {
			if isConsul(list[i]) {
				list[i].Image = ""
			}
		}
	}
	return shortHash([]byte(compactJSON(t)))
}

// isConsul reports whether a container has the image of Consul.
func isConsul(c corev1.Container) bool { return c.Name == ContainerName || c.Name == WaitContainerName }

// PodHash is the digest that every pod made from the template of a spec has among its annotations (AnnotationPodHash).
func PodHash(s Spec) string { return podTemplate(s).Annotations[AnnotationPodHash] }

// ChangesInPlace reports whether a restart in place makes a pod what a template describes. It does not if somebody has changed the pod or
// the template by hand, or if an admission webhook gives pods another image.
func ChangesInPlace(t corev1.PodTemplateSpec, pod *corev1.Pod) bool {
	same := func(annotation string) bool { return pod.Annotations[annotation] == t.Annotations[annotation] }
	return PodHashOf(pod) != "" && same(AnnotationPodHash) && (!same(AnnotationTemplateHash) || IsAsked(pod))
}

// PodHashOf is the PodHash of a pod, "" if nothing of it can change in place.
func PodHashOf(pod *corev1.Pod) string {
	if imageOf(pod.Spec) != pod.Annotations[AnnotationImage] {
		return ""
	}
	return pod.Annotations[AnnotationPodHash]
}

// NeedsImage reports whether the container of Consul in a pod has another image than a template describes.
func NeedsImage(t corev1.PodTemplateSpec, pod *corev1.Pod) bool {
	return imageOf(t.Spec) != imageOf(pod.Spec)
}

// imageOf is the image of the container in which Consul runs.
func imageOf(p corev1.PodSpec) string {
	if i := slices.IndexFunc(p.Containers, func(c corev1.Container) bool { return c.Name == ContainerName }); i >= 0 {
		return p.Containers[i].Image
	}
	return ""
}

// A request is the value of AnnotationRestart: its kind, the digest of the template to which the pod restarts, and what tells it apart from
// earlier requests.
const (
	requestProcess = "process-"
	requestImage   = "image-"
)

func request(t corev1.PodTemplateSpec, pod *corev1.Pod) string {
	kind := requestProcess
	if NeedsImage(t, pod) {
		kind = requestImage
	}
	return kind + t.Annotations[AnnotationTemplateHash] + "." + pod.ResourceVersion
}

// containerOf is the ID of the container of Consul in a pod.
func containerOf(pod *corev1.Pod) string {
	for _, c := range pod.Status.ContainerStatuses {
		if c.Name == ContainerName {
			return c.ContainerID
		}
	}
	return ""
}

// IsAsked reports whether a pod was asked to restart in place, and is not known to be back. If it does not restart to the current
// template (IsRestarting), nobody knows which one its server runs.
func IsAsked(pod *corev1.Pod) bool { return pod.Annotations[AnnotationRestart] != "" }

// IsRestarting reports whether a pod restarts in place to what a template describes, and is not known to be back.
func IsRestarting(t corev1.PodTemplateSpec, pod *corev1.Pod) bool {
	asked, _, _ := strings.Cut(pod.Annotations[AnnotationRestart], ".")
	hash := t.Annotations[AnnotationTemplateHash]
	return hash != "" && (asked == requestProcess+hash || asked == requestImage+hash && !NeedsImage(t, pod))
}

// HasAskedContainer reports whether the container of a pod is not one that is being replaced. Until then, the pod has the version of what
// does not run yet.
func HasAskedContainer(pod *corev1.Pod) bool {
	former := pod.Annotations[AnnotationFormerContainer]
	return former == "" || containerOf(pod) != former
}

// IsServing reports whether clients are routed to a pod when it is ready.
func IsServing(pod *corev1.Pod) bool { return pod.Labels[LabelServing] == "true" }

// IsUnrouted reports whether a pod is out of the Service, for a restart in place. An earlier version of the provider made pods without
// the label, and a Service that does not select by it.
func IsUnrouted(pod *corev1.Pod) bool {
	return !IsServing(pod) && pod.Annotations[AnnotationPodHash] != ""
}

// UnroutePatch is the JSON merge patch after which clients are no longer routed to a pod.
func UnroutePatch(pod *corev1.Pod) []byte {
	return podPatch(pod, map[string]any{"labels": map[string]any{LabelServing: nil}}, nil)
}

// RoutePatch is the JSON merge patch after which clients are routed to a pod.
func RoutePatch(pod *corev1.Pod) []byte {
	return podPatch(pod, map[string]any{"labels": map[string]any{LabelServing: "true"}}, nil)
}

// RequestPatch is the JSON merge patch that asks a pod to restart in place to what a template describes. If it needs another image, the
// container restarts only with ImagePatch, which must find the request in the pod (leave.sh).
func RequestPatch(t corev1.PodTemplateSpec, pod *corev1.Pod) []byte {
	return podPatch(pod, map[string]any{"annotations": map[string]any{
		AnnotationConfigHash: t.Annotations[AnnotationConfigHash],
		AnnotationRestart:    request(t, pod),
	}}, nil)
}

// ImagePatch is the strategic merge patch that gives the containers of a pod the image of Consul that a template describes. From then on
// the pod counts as one of that version.
func ImagePatch(t corev1.PodTemplateSpec, pod *corev1.Pod) []byte {
	spec := map[string]any{}
	for field, list := range map[string][]corev1.Container{"initContainers": t.Spec.InitContainers, "containers": t.Spec.Containers} {
		for _, c := range list {
			if isConsul(c) {
				spec[field] = []map[string]string{{"name": c.Name, "image": c.Image}}
			}
		}
	}
	return podPatch(pod, map[string]any{
		"labels":      map[string]any{LabelVersion: t.Labels[LabelVersion]},
		"annotations": map[string]any{AnnotationImage: t.Annotations[AnnotationImage], AnnotationFormerContainer: containerOf(pod)},
	}, spec)
}

// RestartedPatch is the JSON merge patch that ends a restart in place: the pod is what the template of the StatefulSet describes, and
// clients are routed to it.
func RestartedPatch(sts *appsv1.StatefulSet, pod *corev1.Pod) []byte {
	t := sts.Spec.Template
	return podPatch(pod, map[string]any{
		"labels": map[string]any{
			LabelVersion:                    t.Labels[LabelVersion],
			LabelServing:                    "true",
			appsv1.StatefulSetRevisionLabel: sts.Status.UpdateRevision,
		},
		"annotations": map[string]any{
			AnnotationTemplateHash: t.Annotations[AnnotationTemplateHash], AnnotationRestart: nil, AnnotationFormerContainer: nil,
		},
	}, nil)
}

// podPatch changes a pod, and no later one of its name.
func podPatch(pod *corev1.Pod, metadata, spec map[string]any) []byte {
	metadata["uid"] = pod.UID
	patch := map[string]any{"metadata": metadata}
	if len(spec) > 0 {
		patch["spec"] = spec
	}
	return []byte(compactJSON(patch))
}
