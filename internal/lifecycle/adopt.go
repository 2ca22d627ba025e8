package lifecycle

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// former is what was found of the servers to adopt.
type former struct {
	takeover server.Takeover
	// token is the management token, "" where ACLs are off.
	token string
}

// observeAdoption reads what was applied of an adoption. It reads nothing of one that has not begun.
func (op *operation) observeAdoption() error {
	if op.before = (server.Spec{}); op.live.StatefulSet == nil {
		return nil
	}
	before, err := server.Parse(op.live, op.wanted.Spec)
	if err == nil && op.wanted.Create && !before.Creating {
		err = ErrExists
	}
	if err == nil {
		op.before = before
	}
	return err
}

// checkAdoption refuses an adoption that cannot begin, with a *RefusedError, or that cannot be resumed as it is declared now.
func (op *operation) checkAdoption(ctx context.Context, spec server.Spec) (err error) {
	if op.live.StatefulSet == nil {
		op.former, err = op.servers.checkFormer(ctx, spec, op.live)
		return err
	}
	before := op.before
	switch {
	case !server.SameStages(before, spec):
		return fmt.Errorf(
			"the adoption of servers by %s is not complete: keep the former values of gossip.enabled and tls.enabled until it is",
			spec.ID(),
		)
	case before.Adopt == nil || before.Takeover == nil:
		return fmt.Errorf(
			"the annotations of the StatefulSet %s/%s do not name the servers that the cluster adopts",
			spec.Namespace,
			server.StatefulSetName(spec.Name),
		)
	}
	spec.Adopt = cmp.Or(spec.Adopt, before.Adopt)
	if spec.Adopt.StatefulSet != before.Adopt.StatefulSet {
		return fmt.Errorf("the adoption of the servers of the StatefulSet %s is not complete: keep adopt.stateful_set", before.Adopt.StatefulSet)
	}
	if err := foreign(withoutClaimable(op.live, spec), spec.Name); err != nil {
		return err
	}
	op.former.takeover, err = op.servers.rejoin(ctx, *before.Takeover, spec.Adopt.StatefulSet)
	return err
}

// keepSecrets makes sure that the new servers find the management token and the gossip keys of the former servers.
func (op *operation) keepSecrets(ctx context.Context, spec server.Spec) error {
	if err := op.made.secret(op.credentials.keepToken(ctx, op.former.token)); err != nil {
		return err
	}
	return op.made.secret(op.credentials.keepKeys(ctx, spec, op.former.token))
}

// adoptServers replaces the former servers by those whose objects are applied. It returns an *UnsettledError.
func (op *operation) adoptServers(ctx context.Context) error {
	spec := *op.applied
	token, err := op.credentials.token(ctx)
	if err == nil {
		both := op.servers.adoptable(spec, token, int(op.wanted.Spec.Replicas))
		err = rollout.Run(ctx, both, loop(op.clock, spec.Update.ServerTimeout, func(a rollout.Action) { op.report(ctx, a) }))
	}
	if err != nil {
		return op.servers.unsettled(ctx, err, spec)
	}
	return nil
}

// withoutClaimable removes the Service of the former servers that becomes the client Service of the
// cluster when Services are switched. Before that, it is not touched.
func withoutClaimable(live server.Set, spec server.Spec) server.Set {
	if isClaimable(live, spec) {
		live.ClientService = nil
	}
	return live
}

func isClaimable(live server.Set, spec server.Spec) bool {
	svc := live.ClientService
	return svc != nil && spec.Adopt != nil && !server.Owns(spec.Name, svc.Labels) && slices.Contains(spec.Adopt.Services, svc.Name)
}

// revert reverts an adoption that is not complete: it brings the former servers back to their
// number, gives them the leadership and their Services, and removes the servers of the cluster one
// at a time. It does nothing if there is no adoption, or no former server any more.
func (d adoption) revert(ctx context.Context, spec server.Spec, live server.Set) error {
	before, err := server.Parse(live, spec)
	if err != nil || before.Adopt == nil || before.Takeover == nil {
		return err
	}
	sts, err := kube.ReadStatefulSet(ctx, d.Kube, d.Consul.Namespace, before.Adopt.StatefulSet)
	if err != nil || sts == nil || replicasOf(sts) == 0 {
		return err
	}
	token, _, err := consulacl.ManagementToken(ctx, d.Consul)
	if err != nil {
		return err
	}
	t := d.liveTakeover(before, token, 0)
	t.back = true
	if err := t.removeBridge(ctx, server.ClientServiceName(spec.Name)); err != nil { // of one that was killed
		return err
	}
	if err := rollout.Run(ctx, t, loop(systemClock{}, spec.Update.ServerTimeout, d.Report)); err != nil {
		return d.unsettled(ctx, err, spec)
	}
	return nil
}

// Leftover is what an adoption leaves behind. Nothing uses it anymore.
type Leftover struct {
	// StatefulSet of the former servers, scaled to 0.
	StatefulSet string
	// Claims are the volume claims of the former servers.
	Claims []string
	// HelmRelease is the release that created the StatefulSet, "" if Helm did not create it.
	HelmRelease string
	// Unserved are the ports of switched Services, "<service>: <port>", behind which no
	// server listens.
	Unserved []string
}

// Leftover says what an adoption has left behind.
func (d Deployment) Leftover(ctx context.Context, spec server.Spec) (Leftover, error) {
	l := Leftover{StatefulSet: spec.Adopt.StatefulSet}
	sts, err := kube.ReadStatefulSet(ctx, d.Kube, d.Consul.Namespace, l.StatefulSet)
	if err != nil || sts == nil {
		return Leftover{}, err
	}
	l.HelmRelease = sts.Annotations["meta.helm.sh/release-name"]
	var prefixes []string
	for i := range sts.Spec.VolumeClaimTemplates {
		prefixes = append(prefixes, sts.Spec.VolumeClaimTemplates[i].Name+"-"+sts.Name+"-")
	}
	if l.Claims, err = (volumes{d}).claimsOf(ctx, prefixes...); err != nil {
		return Leftover{}, err
	}
	for _, name := range spec.Adopt.Services {
		svc, err := d.Kube.CoreV1().Services(spec.Namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			continue // deleted, or the client Service of the cluster by now
		}
		for _, port := range server.Unserved(spec, svc, sts.Spec.Template.Spec) {
			l.Unserved = append(l.Unserved, name+": "+port)
		}
	}
	return l, nil
}
