package kube

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// maxEventAge keeps what is long over out of an explanation.
const maxEventAge = 10 * time.Minute

// maxEvents is how many of the newest events an explanation quotes.
const maxEvents = 8

// Explain says, for the pods that a set of labels selects, what keeps them from
// being ready: scheduling, waiting reasons, restarts, pending volumes, and the
// newest warnings. owner is the name of the object that makes the pods, whose
// events count too. It never fails: what cannot be read is said in its place.
func (c *Client) Explain(ctx context.Context, namespace, owner string, selector map[string]string) string {
	var b strings.Builder
	opts := metav1.ListOptions{LabelSelector: labels.SelectorFromSet(selector).String()}
	pods, err := c.CoreV1().Pods(namespace).List(ctx, opts)
	if err != nil {
		return fmt.Sprintf("The pods cannot be listed: %s\n", err)
	}
	if len(pods.Items) == 0 {
		b.WriteString("There are no pods.\n")
	}
	involved := map[string]bool{owner: true}
	for i := range pods.Items {
		p := &pods.Items[i]
		involved[p.Name] = true
		fmt.Fprintf(&b, "Pod %s: %s\n", p.Name, describePod(p))
	}
	claims, err := c.CoreV1().PersistentVolumeClaims(namespace).List(ctx, opts)
	if err != nil {
		fmt.Fprintf(&b, "The volume claims cannot be listed: %s\n", err)
	} else {
		for i := range claims.Items {
			p := &claims.Items[i]
			involved[p.Name] = true
			if p.Status.Phase != corev1.ClaimBound {
				class := "the default storage class"
				switch name := p.Spec.StorageClassName; {
				case name != nil && *name == "":
					class = "no storage class: it waits for a volume that somebody makes"
				case name != nil:
					class = "storage class " + *name
				}
				fmt.Fprintf(&b, "Volume claim %s: %s (%s)\n", p.Name, p.Status.Phase, class)
			} else if text := describeResize(p); text != "" {
				fmt.Fprintf(&b, "Volume claim %s: %s\n", p.Name, text)
			}
		}
	}
	events, err := c.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "type=" + corev1.EventTypeWarning})
	if err != nil {
		fmt.Fprintf(&b, "The events cannot be listed: %s\n", err)
		return b.String()
	}
	warnings := slices.DeleteFunc(events.Items, func(e corev1.Event) bool {
		return !involved[e.InvolvedObject.Name] || time.Since(eventTime(e)) > maxEventAge
	})
	slices.SortFunc(warnings, func(a, b corev1.Event) int { return cmp.Compare(eventTime(b).UnixNano(), eventTime(a).UnixNano()) })
	for _, e := range warnings[:min(len(warnings), maxEvents)] {
		fmt.Fprintf(&b, "Event %s, %s %s: %s: %s\n", eventTime(e).UTC().Format(time.TimeOnly), e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, strings.TrimSpace(e.Message))
	}
	return b.String()
}

// describeResize says how far a bound volume has grown, and what Kubernetes says of
// that; "" where it has all that was asked for.
func describeResize(p *corev1.PersistentVolumeClaim) string {
	asked, has := p.Spec.Resources.Requests[corev1.ResourceStorage], p.Status.Capacity[corev1.ResourceStorage]
	if has.Cmp(asked) >= 0 {
		return ""
	}
	parts := []string{fmt.Sprintf("it has %s, and %s were asked for", has.String(), asked.String())}
	if s := p.Status.AllocatedResourceStatuses[corev1.ResourceStorage]; s != "" {
		parts = append(parts, string(s))
	}
	for _, c := range p.Status.Conditions {
		if c.Status == corev1.ConditionTrue {
			parts = append(parts, strings.TrimSpace(fmt.Sprintf("%s %s", c.Type, c.Message)))
		}
	}
	if len(parts) == 1 {
		parts = append(parts, "no controller has said anything of it: is the resizer of the storage driver running?")
	}
	return strings.Join(parts, ", ")
}

func eventTime(e corev1.Event) time.Time {
	switch {
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	default:
		return e.CreationTimestamp.Time
	}
}

func describePod(p *corev1.Pod) string {
	parts := []string{string(p.Status.Phase)}
	if p.DeletionTimestamp != nil {
		parts = append(parts, "terminating")
	}
	for _, c := range p.Status.Conditions {
		if c.Status == corev1.ConditionTrue {
			continue
		}
		if c.Type == corev1.PodScheduled {
			parts = append(parts, fmt.Sprintf("not scheduled: %s", c.Message))
		}
		if c.Type == corev1.PodReady && p.Status.Phase == corev1.PodRunning {
			parts = append(parts, "not ready")
		}
	}
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if w := s.State.Waiting; w != nil && w.Reason != "PodInitializing" {
			parts = append(parts, strings.TrimSpace(fmt.Sprintf("container %s waits: %s %s", s.Name, w.Reason, w.Message)))
		}
		if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
			parts = append(parts, strings.TrimSpace(fmt.Sprintf("container %s ended with exit code %d (%s) %s", s.Name, t.ExitCode, t.Reason, t.Message)))
		}
		if t := s.LastTerminationState.Terminated; t != nil && s.RestartCount > 0 {
			parts = append(parts, fmt.Sprintf("container %s restarted %d times, last exit code %d (%s)", s.Name, s.RestartCount, t.ExitCode, t.Reason))
		}
	}
	return strings.Join(parts, ", ")
}
