package restic

import (
	"context"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
)

// ForeignError reports that another tool or person made an object with a name that is needed.
type ForeignError struct{ Object string }

// Error implements error.
func (e *ForeignError) Error() string {
	return e.Object + " exists and was not made by this provider for this purpose"
}

const (
	interval = time.Second
	// cleanUpTimeout limits how long the cleanup after a failure may take.
	cleanUpTimeout = 30 * time.Second
)

// start creates a Job. It returns a *ForeignError if a Job with its name exists.
func start(ctx context.Context, k *kube.Client, job *batchv1.Job) (*batchv1.Job, error) {
	made, err := k.StartJob(ctx, job)
	if apierrors.IsAlreadyExists(err) {
		return nil, &ForeignError{"Job " + job.Namespace + "/" + job.Name}
	}
	return made, err
}
