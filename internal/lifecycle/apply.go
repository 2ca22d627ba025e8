package lifecycle

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// apply applies what a spec renders.
func (op *operation) apply(ctx context.Context, spec server.Spec) error {
	op.from = op.before
	if spec.Takeover != nil {
		spec.Takeover = &op.former.takeover
	}
	if spec.Resizing = op.resizing; op.snapshot != nil {
		spec.UpgradeSnapshot = op.snapshot
		op.from.UpgradeSnapshot = op.snapshot // in case it is rolled back
	}
	var err error
	if spec.FormerConfig, err = op.objects.formerConfig(ctx, spec, op.live); err != nil {
		return err
	}
	objects := server.Objects(spec)
	if op.prepared {
		objects.Namespace, objects.ServiceAccount = nil, nil
	}
	if spec.Takeover != nil && isClaimable(op.live, spec) { // AdoptServers routes it to the new servers
		objects.ClientService = nil
	}
	if !op.wanted.Create {
		if err := op.objects.keepRouted(ctx, op.live); err != nil {
			return err
		}
	}
	accepted, err := op.objects.apply(ctx, objects, op.live)
	op.made.objects = append(op.made.objects, accepted...)
	if err != nil {
		return err
	}
	op.applied, op.known = &spec, &spec
	return nil
}

// keepRouted gives the pods the label by which the client Service selects them, before it does. An earlier version of the provider made
// pods without it.
func (d objects) keepRouted(ctx context.Context, live server.Set) error {
	svc := live.ClientService
	if svc == nil || svc.Spec.Selector[server.LabelServing] != "" {
		return nil
	}
	pods, err := d.Consul.Pods(ctx)
	if err != nil {
		return err
	}
	pods = slices.DeleteFunc(pods, func(p corev1.Pod) bool { return server.IsServing(&p) })
	if len(pods) == 0 {
		return nil
	}
	for i := range pods {
		_, err := d.Kube.CoreV1().Pods(pods[i].Namespace).Patch(ctx, pods[i].Name, types.MergePatchType,
			server.RoutePatch(&pods[i]), metav1.PatchOptions{FieldManager: server.ManagedBy})
		if _, err := kube.Found(err); err != nil {
			return fmt.Errorf("labeling server %s for the client Service: %w", pods[i].Name, err)
		}
	}
	return pause(ctx, bridgeLag) // until the controller of endpoints has seen the labels
}

// tellServers brings the number of declared servers into the pods before any of them stops: a server that compares with a larger number
// stays a peer, and one that compares with a smaller number leaves although the others need it for a quorum (leave.sh). The leader is the
// first that is told a larger number, and the last that is told a smaller one. If it alone knew the smaller number, servers that stop with
// it would stay peers, and it would leave with the only log that says so. This is unlikely, but can happen: the kubelet also brings the
// number into the pods by itself, in any order.
func (d objects) tellServers(ctx context.Context, former, declared int32) error {
	pods, err := d.Consul.Pods(ctx)
	if err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, unwellTimeout)
	defer cancel()
	if found, err := consul.LeaderPod(short, d.Consul, answering(pods)); err == nil { // without a leader, no server can leave
		leader := *found
		pods = slices.DeleteFunc(pods, func(p corev1.Pod) bool { return p.Name == leader.Name })
		if declared > former {
			pods = slices.Insert(pods, 0, leader)
		} else {
			pods = append(pods, leader)
		}
	}
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"%d"}}}`, server.AnnotationServers, declared)
	for i := range pods {
		_, err := d.Kube.CoreV1().Pods(
			pods[i].Namespace,
		).Patch(
			ctx,
			pods[i].Name,
			types.MergePatchType,
			patch,
			metav1.PatchOptions{FieldManager: server.ManagedBy},
		)
		if _, err := kube.Found(err); err != nil {
			return fmt.Errorf("passing the number of declared servers to server %s: %w", pods[i].Name, err)
		}
	}
	return nil
}

// answering are the pods whose servers can be asked, ready ones first.
func answering(pods []corev1.Pod) []corev1.Pod {
	var ready, others []corev1.Pod
	for i := range pods {
		switch p := &pods[i]; {
		case consul.PodReady(p):
			ready = append(ready, *p)
		case p.DeletionTimestamp == nil && consul.PodRuns(p):
			others = append(others, *p)
		}
	}
	return append(ready, others...)
}
