package lifecycle

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// report reports an action, and records it as an Event.
func (d Deployment) report(ctx context.Context, a rollout.Action) {
	d.Report(a)
	recordEvent(ctx, d.Kube, d.Consul, a)
}

// recordEvent records an action as an Event of the StatefulSet, for people who watch with kubectl.
// Nothing else depends on it: a failure to record the Event is ignored.
func recordEvent(ctx context.Context, k *kube.Client, c *consul.Cluster, a rollout.Action) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), eventTimeout)
	defer cancel()
	sts, err := c.RequireStatefulSet(ctx)
	if err != nil {
		return
	}
	now := metav1.Now()
	_, _ = k.CoreV1().Events(sts.Namespace).Create(ctx, &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{GenerateName: sts.Name + ".", Namespace: sts.Namespace, Labels: server.DeclaredLabels(sts)},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "apps/v1", Kind: "StatefulSet", Namespace: sts.Namespace, Name: sts.Name, UID: sts.UID, ResourceVersion: sts.ResourceVersion,
		},
		Type: corev1.EventTypeNormal, Reason: string(a.Verb), Message: a.String(),
		Source: corev1.EventSource{Component: server.ManagedBy}, ReportingController: server.ManagedBy,
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}, metav1.CreateOptions{})
}

const eventTimeout = 5 * time.Second
