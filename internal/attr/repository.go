package attr

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// LookUpTimeout bounds the look of a plan into a backup repository, with the pull of an image.
const LookUpTimeout = 3 * time.Minute

// MaxDeadline is the longest that a Job which works on a repository may take.
const MaxDeadline = 24 * time.Hour

// Repository is the attribute repository of all that works on one.
type Repository struct {
	URL    types.String `tfsdk:"url"`
	Claim  types.String `tfsdk:"volume_claim"`
	Secret types.String `tfsdk:"credentials_secret"`
}

// RepositoryTypes are the types of a Repository.
var RepositoryTypes = map[string]tfattr.Type{"url": types.StringType, "volume_claim": types.StringType, "credentials_secret": types.StringType}

// Descriptions of the attributes of a repository, and of the image.
const (
	RepositoryURLDescription         = "The repository as restic writes it, without credentials: `s3:https://host/bucket/path`, `azure:container:/path`, `gs:bucket:/path`, `b2:bucket:path`, `swift:container:/path`, `rest:https://host/path` or `sftp:user@host:/path`. Either this or `volume_claim`."
	RepositoryClaimDescription       = "A PersistentVolumeClaim in the cluster's namespace, whose volume is the repository. Either this or `url`."
	RepositoryCredentialsDescription = "Secret in the cluster's namespace whose keys are the environment variables that restic reads: `RESTIC_PASSWORD`, which encrypts the repository, and what the store takes, such as `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or for SFTP `ssh-privatekey` and `known_hosts`. " +
		"Keys `ca.crt`, and `tls.crt` with `tls.key`, are the authority to trust and a certificate to show. Whoever loses the password loses the backups."
	ResticImageDescription = "Image of restic, 0.17.1 or newer, with a shell. Default `" + restic.DefaultImage + "`."
)

// RepositoryAttributes are the attributes of the repository that a resource works on. The modifiers are those of
// where it is.
func RepositoryAttributes(modifiers ...planmodifier.String) map[string]schema.Attribute {
	return map[string]schema.Attribute{
		"url": schema.StringAttribute{
			Optional: true, Validators: []validator.String{RepositoryURL()}, PlanModifiers: modifiers, MarkdownDescription: RepositoryURLDescription,
		},
		"volume_claim":       schema.StringAttribute{Optional: true, Validators: []validator.String{SecretName()}, PlanModifiers: modifiers, MarkdownDescription: RepositoryClaimDescription},
		"credentials_secret": schema.StringAttribute{Required: true, Validators: []validator.String{SecretName()}, MarkdownDescription: RepositoryCredentialsDescription},
	}
}

// ParseRepository reads a repository, unless it is not known yet.
func ParseRepository(ctx context.Context, o types.Object, diags *diag.Diagnostics) (r Repository, known bool) {
	if o.IsNull() || o.IsUnknown() {
		return r, false
	}
	diags.Append(o.As(ctx, &r, basetypes.ObjectAsOptions{})...)
	return r, true
}

// IsKnown reports whether nothing of it is unknown.
func (r Repository) IsKnown() bool {
	return !r.URL.IsUnknown() && !r.Claim.IsUnknown() && !r.Secret.IsUnknown()
}

// Validate refuses a repository that is none, or two. at is where it is written.
func (r Repository) Validate(at path.Path, diags *diag.Diagnostics) {
	if !r.URL.IsUnknown() && !r.Claim.IsUnknown() && r.URL.IsNull() == r.Claim.IsNull() {
		diags.Append(Error(at, "One repository", "Set either url or volume_claim."))
	}
}

// Spec converts it.
func (r Repository) Spec() restic.Repository {
	return restic.Repository{URL: r.URL.ValueString(), Claim: r.Claim.ValueString(), Secret: r.Secret.ValueString()}
}

// RepositoryObject is the inverse of Repository.Spec.
func RepositoryObject(r restic.Repository) types.Object {
	return types.ObjectValueMust(RepositoryTypes, map[string]tfattr.Value{
		"url": OptionalString(r.URL), "volume_claim": OptionalString(r.Claim), "credentials_secret": OptionalString(r.Secret),
	})
}

// CheckSecret refuses, in a plan, credentials that are not complete. What does not exist may be made meanwhile: that is a
// warning, which ends with what happens otherwise. at is where the repository is written.
func (r Repository) CheckSecret(ctx context.Context, k *kube.Client, namespace string, at path.Path, otherwise string, diags *diag.Diagnostics) {
	err := restic.CheckSecret(ctx, k, namespace, r.Spec())
	secret := at.AtName("credentials_secret")
	switch {
	case errors.Is(err, restic.ErrNoClaim):
		diags.AddAttributeWarning(at.AtName("volume_claim"), "The volume claim does not exist yet", fmt.Sprintf("There is no PersistentVolumeClaim %s in the namespace %s. %s", r.Claim.ValueString(), namespace, otherwise))
	case errors.Is(err, restic.ErrNoSecret):
		diags.AddAttributeWarning(secret, "The Secret does not exist yet", fmt.Sprintf("There is no Secret %s in the namespace %s. %s", r.Secret.ValueString(), namespace, otherwise))
	case errors.As(err, new(*restic.KeysError)):
		diags.Append(Error(secret, "The credentials are not complete", err.Error()+"."))
	case err != nil: // no right, or no answer
		diags.AddAttributeWarning(secret, "The credentials were not looked at", "The apply finds out whether they are complete. "+err.Error())
	}
}

// ResticClient prepares the work on a repository.
func ResticClient(ctx context.Context, clients *Clients, cluster string, r Repository, image string, deadline time.Duration) (restic.Client, error) {
	namespace, name, err := server.ParseID(cluster)
	if err != nil {
		return restic.Client{}, err
	}
	k, err := clients.Kube(ctx)
	if err != nil {
		return restic.Client{}, err
	}
	c, err := clients.Consul(ctx, namespace, name)
	return restic.Client{Kube: k, Consul: c, Repository: r.Spec(), Image: image, Deadline: deadline}, err
}

// Interrupted reports that somebody, or Terraform's time limit, has ended the apply: nothing failed, and the next apply resumes it.
func Interrupted(what string, err error) diag.Diagnostic {
	return diag.NewErrorDiagnostic("The operation was interrupted", fmt.Sprintf("%s: %s. Nothing failed: apply again to resume.", what, err))
}

// JobError explains why a Job did not do its work.
func JobError(summary, did, cluster string, err error) diag.Diagnostic {
	var failed *kube.JobError
	switch {
	case errors.Is(err, context.Canceled):
		return Interrupted(cluster, err)
	case errors.As(err, &failed):
		detail := strings.TrimSpace(fmt.Sprintf("%s %s: %s", did, cluster, err))
		if failed.Explanation != "" {
			detail += "\n\n" + failed.Explanation
		}
		return diag.NewErrorDiagnostic(summary, detail)
	case errors.Is(err, consul.ErrNotRestored):
		return NotRestored(cluster)
	case errors.Is(err, restic.ErrNoCluster):
		return diag.NewAttributeErrorDiagnostic(path.Root("cluster"), "The cluster does not exist", "There is no cluster "+cluster+". Refer to the id of its consul_k8s_cluster.")
	default:
		return diag.NewErrorDiagnostic(summary, fmt.Sprintf("%s: %s", cluster, err))
	}
}

// RepositoryURL validates the URL of a repository.
func RepositoryURL() validator.String {
	return Check("a repository as restic writes it", func(text string) error {
		_, err := restic.KindOf(text)
		return err
	})
}

// Snapshot validates what names a snapshot in a repository.
func Snapshot() validator.String {
	return Check("the ID of a snapshot, or \"latest\"", func(text string) error {
		if text != restic.Latest && (len(text) < 6 || len(text) > 64 || strings.Trim(text, "0123456789abcdef") != "") {
			return fmt.Errorf("%q is none: write at least six hexadecimal digits of an ID, or %q", text, restic.Latest)
		}
		return nil
	})
}
