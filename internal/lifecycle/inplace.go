package lifecycle

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// inPlace restarts servers in their pods.
type inPlace struct{ Live }

// restart asks the pod of a server to restart Consul in it. Clients are routed to the other servers before.
func (l inPlace) restart(ctx context.Context, s rollout.Server) error {
	sts, pod, err := l.find(ctx, s)
	if err != nil || pod == nil {
		return err
	}
	t := sts.Spec.Template
	image := server.NeedsImage(t, pod)
	if image { // a policy that refuses this must not leave the server out of the Service
		if err := l.patch(ctx, pod, types.StrategicMergePatchType, server.ImagePatch(t, pod), metav1.DryRunAll); err != nil {
			return fmt.Errorf("changing the image of the running pod %s: %w; to give servers new pods instead, set update.strategy = %q",
				pod.Name, err, server.NewPods)
		}
	}
	if err := l.evictable(ctx, s); err != nil {
		return err
	}
	if *sts.Spec.Replicas > 1 {
		if err := l.patch(ctx, pod, types.MergePatchType, server.UnroutePatch(pod)); err != nil {
			return err
		}
	}
	if image {
		if err := l.patch(ctx, pod, types.MergePatchType, server.RequestPatch(t, pod)); err != nil {
			return err
		}
	}
	// Until then, every kube-proxy knows that the server is out of the Service, and the kubelet has told the pod of the request.
	if err := pause(ctx, bridgeLag); err != nil {
		return err
	}
	if err := l.evictable(ctx, s); err != nil {
		return err
	}
	if image {
		return l.patch(ctx, pod, types.StrategicMergePatchType, server.ImagePatch(t, pod))
	}
	return l.patch(ctx, pod, types.MergePatchType, server.RequestPatch(t, pod))
}

// evictable returns an error if Kubernetes takes another server away at this moment: it tries an eviction.
func (l inPlace) evictable(ctx context.Context, s rollout.Server) error {
	return l.evict(ctx, s, metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}})
}

// route routes clients to a server, and ends its restart in place.
func (l inPlace) route(ctx context.Context, s rollout.Server) error {
	sts, pod, err := l.find(ctx, s)
	if err != nil || pod == nil {
		return err
	}
	patch := server.RoutePatch(pod)
	if s.Restarted {
		patch = server.RestartedPatch(sts, pod)
	}
	return l.patch(ctx, pod, types.MergePatchType, patch)
}

// find reads the StatefulSet, and the pod of a server as it was observed; nil if it no longer exists.
func (l inPlace) find(ctx context.Context, s rollout.Server) (*appsv1.StatefulSet, *corev1.Pod, error) {
	sts, err := l.Consul.RequireStatefulSet(ctx)
	if err != nil {
		return nil, nil, err
	}
	pod, err := l.Kube.CoreV1().Pods(l.Consul.Namespace).Get(ctx, s.Name, metav1.GetOptions{})
	if found, err := kube.Found(err); err != nil || !found || string(pod.UID) != s.UID {
		return sts, nil, err
	}
	return sts, pod, nil
}

func (l inPlace) patch(ctx context.Context, pod *corev1.Pod, kind types.PatchType, patch []byte, dryRun ...string) error {
	_, err := l.Kube.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, kind, patch,
		metav1.PatchOptions{FieldManager: server.ManagedBy, DryRun: dryRun})
	return err
}
