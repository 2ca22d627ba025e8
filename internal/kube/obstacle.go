package kube

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Obstacle is a reason why pods that an operation waits for are not ready.
type Obstacle struct {
	// Object is what the reason is about, such as "Pod consul-server-0".
	Object string
	// Reason is what Kubernetes, or the program in the pod, says.
	Reason string
	// Remedy is what a person can do about it, "" if the reason says it.
	Remedy string
	// Since is when the reason first applied, within the operation.
	Since time.Time
	// Final says that waiting does not help.
	Final bool
}

// String is the reason with its object.
func (o Obstacle) String() string { return o.Object + ": " + o.Reason }

const (
	// grace is how long to wait in spite of a final obstacle: a registry may fail once, and a cluster
	// autoscaler looks at pending pods every ten seconds (github.com/kubernetes/autoscaler,
	// cluster-autoscaler/FAQ.md, scan-interval).
	grace = time.Minute
	// manyRestarts is the number of crashes after which another start of a container is not
	// expected to help: the kubelet has then waited 10, 20, 40 and 80 seconds between them.
	manyRestarts = 5
)

// Remedies for what keeps pods from being ready.
const (
	remedyScheduling = "Add a node on which the pod fits, or change what the pod requires: its placement, its resources, or the number of " +
		"servers."
	remedyImage  = "Check the image and its version, the image pull secrets, and whether the nodes can reach the registry."
	remedyClaim  = "Name a storage class that exists, or provide a volume that fits the claim."
	remedyMemory = "Raise the memory limit in resources."
	remedyCreate = "Change what the policy or the quota of the namespace refuses, or the policy itself."
)

// findObstacles names what keeps pods from being ready: first the obstacles for which waiting does not help.
// events are those of the operation, which began at a point in time, and owner is the name of the object that
// creates the pods. A ready pod has no obstacles, whatever happened to it before.
//
//   - A pod that the scheduler reports as unschedulable stays so, unless an autoscaler has announced another
//     node.
//   - A claim that no volume fits stays unbound, and the pod that waits for it stays pending.
//   - An image that cannot be pulled, and a container whose Secret or ConfigMap is missing,
//     stay so.
//   - A container that has crashed many times crashes again.
//   - An owner whose latest attempt to create a pod was refused is refused again.
//   - A volume that cannot be attached or mounted may still be later.
func findObstacles(
	pods []corev1.Pod,
	claims []corev1.PersistentVolumeClaim,
	events []corev1.Event,
	owner string,
	began time.Time,
) []Obstacle {
	var found []Obstacle
	for i := range claims {
		found = append(found, claimObstacles(&claims[i], events, began)...)
	}
	for i := range pods {
		if pods[i].DeletionTimestamp == nil && !podReady(&pods[i]) {
			found = append(found, podObstacles(&pods[i], events, began)...)
		}
	}
	if e := latest(events, func(e corev1.Event) bool { return e.InvolvedObject.Name == owner && e.Reason == "FailedCreate" }); e != nil {
		if !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return !p.CreationTimestamp.Time.Before(eventTime(*e)) }) {
			found = append(found, Obstacle{
				Object: e.InvolvedObject.Kind + " " + owner, Reason: "cannot create a pod: " + strings.TrimSpace(e.Message),
				Remedy: remedyCreate, Since: later(e.FirstTimestamp.Time, began), Final: true,
			})
		}
	}
	slices.SortStableFunc(found, func(a, b Obstacle) int {
		switch {
		case a.Final == b.Final:
			return 0
		case a.Final:
			return -1
		default:
			return 1
		}
	})
	return found
}

func claimObstacles(c *corev1.PersistentVolumeClaim, events []corev1.Event, began time.Time) []Obstacle {
	if c.Status.Phase == corev1.ClaimBound {
		return nil
	}
	e := latest(events, func(e corev1.Event) bool {
		return e.InvolvedObject.UID == c.UID && (e.Reason == "FailedBinding" || e.Reason == "ProvisioningFailed")
	})
	if e == nil {
		return nil
	}
	byHand := c.Spec.StorageClassName != nil && *c.Spec.StorageClassName == ""
	return []Obstacle{{
		Object: "Volume claim " + c.Name, Reason: fmt.Sprintf("is not bound (%s): %s", describeClass(c), strings.TrimSpace(e.Message)),
		Remedy: remedyClaim, Since: later(e.FirstTimestamp.Time, began),
		// A provisioner that fails tries again, and a person may still provide a volume; without an existing class, no provisioner
		// does.
		Final: (e.Reason == "FailedBinding" && !byHand) || strings.Contains(e.Message, "not found"),
	}}
}

// imageOf is the image of a container as the pod declares it: the status of a container has the one that it ran last.
func imageOf(p *corev1.Pod, container string) string {
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		if c.Name == container {
			return c.Image
		}
	}
	return ""
}

func podObstacles(p *corev1.Pod, events []corev1.Event, began time.Time) []Obstacle {
	object := "Pod " + p.Name
	about := func(reasons ...string) func(corev1.Event) bool {
		return func(e corev1.Event) bool { return e.InvolvedObject.UID == p.UID && slices.Contains(reasons, e.Reason) }
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return []Obstacle{{
				Object: object, Reason: "not scheduled: " + c.Message, Remedy: remedyScheduling, Since: later(c.LastTransitionTime.Time, began),
				// The reasons of the cluster autoscaler and of Karpenter.
				Final: latest(events, about("TriggeredScaleUp", "Nominated")) == nil,
			}}
		}
	}
	// A container that waits does not report since when: the first event of its failure does.
	failed := first(events, about("Failed", "InspectFailed", "ErrImageNeverPull"))
	var found []Obstacle
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		o := Obstacle{Object: object, Since: later(p.CreationTimestamp.Time, began)}
		if failed != nil {
			o.Since = later(failed.FirstTimestamp.Time, began)
		}
		last := s.LastTerminationState.Terminated
		switch w := s.State.Waiting; {
		case w != nil && slices.Contains(
			[]string{"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}, w.Reason,
		):
			message := w.Message
			if e := latest(events, about("Failed")); e != nil && !strings.Contains(message, "rpc error") {
				message = e.Message
			}
			image := cmp.Or(imageOf(p, s.Name), s.Image)
			o.Reason = fmt.Sprintf("container %s cannot get the image %s: %s: %s", s.Name, image, w.Reason, strings.TrimSpace(message))
			o.Remedy, o.Final = remedyImage, failed != nil
		case w != nil && (w.Reason == "CreateContainerConfigError" || w.Reason == "CreateContainerError"):
			o.Reason = fmt.Sprintf("container %s cannot be created: %s", s.Name, strings.TrimSpace(w.Message))
			o.Final = failed != nil
		case s.State.Running == nil && last != nil && last.Reason == "OOMKilled":
			o.Reason = fmt.Sprintf("container %s was killed because it ran out of memory, %d times", s.Name, s.RestartCount)
			o.Remedy, o.Final = remedyMemory, s.RestartCount >= manyRestarts
		case w != nil && w.Reason == "CrashLoopBackOff" && last != nil:
			o.Reason = fmt.Sprintf("container %s crashed %d times: %s", s.Name, s.RestartCount, describeEnd(last))
			o.Final = s.RestartCount >= manyRestarts
		default:
			continue
		}
		found = append(found, o)
	}
	if len(found) == 0 && !podRuns(p) {
		if e := latest(events, about("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox")); e != nil {
			found = append(found, Obstacle{Object: object, Reason: strings.TrimSpace(e.Message), Since: later(e.FirstTimestamp.Time, began)})
		}
	}
	return found
}

// describeEnd says how a container ended, with its last words.
func describeEnd(t *corev1.ContainerStateTerminated) string {
	text := fmt.Sprintf("exit code %d", t.ExitCode)
	if t.Reason != "" && t.Reason != "Error" {
		text += " (" + t.Reason + ")"
	}
	if words := lastWords(t.Message); words != "" {
		text += ": " + words
	}
	return text
}

// maxWords is how many lines of a container's last words are quoted: the last ones say why.
const maxWords = 4

// maxWordsLength is how much of each line is quoted.
const maxWordsLength = 400

// lastWords are the last lines of a termination message. If that falls back to the log, the reason is among the last lines that do
// not only report progress.
func lastWords(message string) string {
	var lines, progress []string
	for line := range strings.Lines(message) {
		line = strings.TrimSpace(line)
		if len(line) > maxWordsLength {
			line = strings.ToValidUTF8(line[:maxWordsLength], "") + "…"
		}
		switch {
		case line == "":
		case strings.Contains(line, "[INFO]"), strings.Contains(line, "[DEBUG]"), strings.Contains(line, "[TRACE]"):
			progress = append(progress, line)
		default:
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		lines = progress
	}
	return strings.Join(lines[max(0, len(lines)-maxWords):], "\n")
}

// podRuns reports whether all containers of a pod run.
func podRuns(p *corev1.Pod) bool {
	return len(p.Status.ContainerStatuses) > 0 &&
		!slices.ContainsFunc(p.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.State.Running == nil })
}

// podReady reports whether a pod is ready.
func podReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(
		p.Status.Conditions,
		func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue },
	)
}

// first is the matching event that began first, nil if none matches.
func first(events []corev1.Event, match func(corev1.Event) bool) *corev1.Event {
	var earliest *corev1.Event
	for i := range events {
		if match(events[i]) && (earliest == nil || events[i].FirstTimestamp.Before(&earliest.FirstTimestamp)) {
			earliest = &events[i]
		}
	}
	return earliest
}

// latest is the newest matching event, nil if none matches.
func latest(events []corev1.Event, match func(corev1.Event) bool) *corev1.Event {
	var newest *corev1.Event
	for i := range events {
		if match(events[i]) && (newest == nil || cmp.Compare(eventTime(events[i]).UnixNano(), eventTime(*newest).UnixNano()) > 0) {
			newest = &events[i]
		}
	}
	return newest
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// blocked is the first obstacle for which waiting does not help, nil if nothing is blocked, or if its grace has not
// ended.
func blocked(found []Obstacle, now time.Time) *Obstacle {
	for i := range found {
		if found[i].Final && now.Sub(found[i].Since) >= grace {
			return &found[i]
		}
	}
	return nil
}
