package server

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons for which a server restarts, besides another version.
const (
	// ReasonConfig is another configuration of the agent.
	ReasonConfig = "configuration"
	// ReasonPod is another setting of the pod.
	ReasonPod = "settings of the pod"
	// ReasonTemplate is an edit of the pod template by somebody else.
	ReasonTemplate = "pod template edited"
)

// RestartReason says in a few words why a pod restarts that is to be made from another template. former and wanted are the metadata of the
// pod and of the template.
func RestartReason(former, wanted metav1.ObjectMeta) string {
	differs := func(annotation string) bool { return former.Annotations[annotation] != wanted.Annotations[annotation] }
	from, to := former.Labels[LabelVersion], wanted.Labels[LabelVersion]
	switch {
	case !differs(AnnotationTemplateHash):
		return ReasonTemplate
	case from != to:
		return fmt.Sprintf("version %s -> %s", from, to)
	case differs(AnnotationConfigHash):
		return ReasonConfig
	default:
		return ReasonPod
	}
}

// RestartReasonOf is RestartReason for the pods of two specs.
func RestartReasonOf(before, after Spec) string {
	return RestartReason(podTemplate(before).ObjectMeta, podTemplate(after).ObjectMeta)
}
