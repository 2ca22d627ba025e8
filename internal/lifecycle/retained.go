package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Retained is a volume claim with which the server of its ordinal starts, whether that server exists or not.
type Retained struct {
	Name    string
	Ordinal int
	// Size is the requested size, such as "10Gi".
	Size    string
	Created time.Time
	// Version of Consul that wrote the data, "" if no data is known.
	Version string
	// Bound says that the claim has a volume. One without has no data.
	Bound bool
}

// String names the claim, with its size, its age, and what wrote its data.
func (r Retained) String() string {
	data := "no version of Consul is recorded on it"
	if r.Version != "" {
		data = "data of Consul " + r.Version
	}
	created := r.Created.UTC().Format(time.RFC3339)
	return fmt.Sprintf("%s (%s, created %s, %s ago, %s)", r.Name, r.Size, created, age(time.Since(r.Created)), data)
}

// age writes how old something is as kubectl does, in its largest unit.
func age(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return strconv.Itoa(int(d.Hours()/24)) + "d"
	case d >= 2*time.Hour:
		return strconv.Itoa(int(d.Hours())) + "h"
	case d >= 2*time.Minute:
		return strconv.Itoa(int(d.Minutes())) + "m"
	default:
		return strconv.Itoa(int(max(0, d).Seconds())) + "s"
	}
}

// ClaimNames lists the names of claims.
func ClaimNames(claims []Retained) []string {
	var names []string
	for _, c := range claims {
		names = append(names, c.Name)
	}
	return names
}

// DataVersions are the different versions of Consul that wrote the data of claims, oldest
// first.
func DataVersions(claims []Retained) []string {
	var versions []string
	for _, c := range claims {
		versions = append(versions, c.Version)
	}
	return server.SortVersions(versions)
}

// Retained lists the volume claims of the cluster's servers by ordinal: a StatefulSet uses any claim of that
// name, no matter which client created it.
func (d Deployment) Retained(ctx context.Context) ([]Retained, error) {
	list, err := d.Kube.CoreV1().PersistentVolumeClaims(d.Consul.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing the volume claims of %s: %w", d.Consul.ID(), err)
	}
	return retainedClaims(d.Consul.Name, list.Items), nil
}

// retainedClaims are those of a cluster's servers among all claims of its namespace.
func retainedClaims(cluster string, claims []corev1.PersistentVolumeClaim) []Retained {
	var out []Retained
	for i := range claims {
		c := &claims[i]
		ordinal, ok := strings.CutPrefix(c.Name, server.ClaimPrefix(cluster))
		n, err := strconv.Atoi(ordinal)
		if !ok || err != nil || n < 0 || c.DeletionTimestamp != nil {
			continue
		}
		size := request(c)
		out = append(out, Retained{
			Name: c.Name, Ordinal: n, Size: size.String(), Created: c.CreationTimestamp.Time, Version: c.Annotations[server.AnnotationDataVersion],
			Bound: c.Spec.VolumeName != "",
		})
	}
	slices.SortFunc(out, func(a, b Retained) int { return cmp.Compare(a.Ordinal, b.Ordinal) })
	return out
}

// RetainedDataError says that new servers cannot start with the data on retained volumes.
// Nothing was changed.
type RetainedDataError struct {
	Namespace string
	Claims    []Retained
	// Version that the servers were to run, and Err, a *server.DowngradeError or a
	// *server.JumpError.
	Version string
	Err     error
}

// Error implements error.
func (e *RetainedDataError) Error() string {
	versions, names := DataVersions(e.Claims), ClaimNames(e.Claims)
	text := fmt.Sprintf("the volume claims %s hold data of Consul %s, ", strings.Join(names, ", "), strings.Join(versions, " and "))
	if jump := (*server.JumpError)(nil); errors.As(e.Err, &jump) {
		text += "and " + jump.Error()
	} else {
		newest := versions[len(versions)-1]
		text += fmt.Sprintf("and Consul does not support downgrades: a server with the older %s may start empty beside the data, "+
			"and then %s can no longer read the data either. Set version = %q or later", e.Version, newest, newest)
	}
	return text + fmt.Sprintf(
		". If the data is no longer needed, delete it: kubectl -n %s delete pvc %s",
		e.Namespace,
		strings.Join(names, " "),
	)
}

// Unwrap returns why.
func (e *RetainedDataError) Unwrap() error { return e.Err }

// CheckRetained decides whether new servers of a version may start with the data on the claims of their
// ordinals. Claims whose version is not known do not count. It returns a *RetainedDataError if they may not.
//
//   - No server starts with the data of a newer version. This also holds if other servers have data of an older
//     version, as after an incomplete upgrade: all servers start at once, and there is no leader that could
//     bring one up to date.
//   - No server upgrades over more than two release lines.
func CheckRetained(namespace string, claims []Retained, version string) error {
	versions := DataVersions(claims)
	if len(versions) == 0 {
		return nil
	}
	takesBack, err := server.CheckUpgrade(versions, version)
	if takesBack {
		err = &server.DowngradeError{From: versions[len(versions)-1], To: version}
	}
	if err == nil {
		return nil
	}
	known := slices.DeleteFunc(slices.Clone(claims), func(c Retained) bool { return len(server.SortVersions([]string{c.Version})) == 0 })
	return &RetainedDataError{Namespace: namespace, Claims: known, Version: version, Err: err}
}

// dataVersion is the version to record on a claim for the data on its volume: the version of the healthy server
// that uses it. A server that is not healthy may have written data with its version, and the data may still be
// that of a newer one.
func dataVersion(marked string, pod *corev1.Pod) string {
	runs := pod.Labels[server.LabelVersion]
	switch versions := server.SortVersions([]string{marked, runs}); {
	case len(server.SortVersions([]string{runs})) == 0, !server.HasAskedContainer(pod):
		return marked
	case consul.PodReady(pod):
		return runs
	case hasStarted(pod):
		return versions[len(versions)-1]
	}
	return marked
}

// markData records on the claims of the servers which version of Consul has data on their volumes. If a right
// is missing, it leaves the claims as they are: a plan that uses them again then says that no version is
// recorded. established says that the cluster has had a leader: before that, a server that is not ready has no
// data.
func (d volumes) markData(ctx context.Context, established bool) error {
	pods, err := d.Consul.Pods(ctx)
	if err != nil {
		return err
	}
	claims, err := d.Retained(ctx)
	if err != nil {
		return ignoreForbidden(err)
	}
	for i := range pods {
		j := slices.IndexFunc(claims, func(c Retained) bool { return c.Name == server.ClaimName(pods[i].Name) })
		if j < 0 || (!established && !consul.PodReady(&pods[i])) {
			continue
		}
		if v := dataVersion(claims[j].Version, &pods[i]); v != claims[j].Version {
			if err := d.markClaim(ctx, claims[j].Name, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// forgetData removes the record from all claims of the servers: their volumes are empty.
func (d volumes) forgetData(ctx context.Context) error {
	claims, err := d.Retained(ctx)
	if err != nil {
		return ignoreForbidden(err)
	}
	for _, c := range claims {
		if c.Version == "" {
			continue
		}
		if err := d.markClaim(ctx, c.Name, ""); err != nil {
			return err
		}
	}
	return nil
}

// markClaim records a version on a claim, or with "" that there is no data.
func (d volumes) markClaim(ctx context.Context, name, version string) error {
	value := "null"
	if version != "" {
		value = strconv.Quote(version)
	}
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%s}}}`, server.AnnotationDataVersion, value)
	claims := d.Kube.CoreV1().PersistentVolumeClaims(d.Consul.Namespace)
	_, err := claims.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: server.ManagedBy})
	if err != nil && !apierrors.IsNotFound(err) {
		return ignoreForbidden(fmt.Errorf("recording the version of the data on volume claim %s/%s: %w", d.Consul.Namespace, name, err))
	}
	return nil
}

func ignoreForbidden(err error) error {
	if apierrors.IsForbidden(err) {
		return nil
	}
	return err
}
