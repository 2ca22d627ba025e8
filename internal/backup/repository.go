package backup

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

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// planTimeout bounds what a plan asks Kubernetes.
const planTimeout = 10 * time.Second

// repositoryModel is the attribute repository of all that works on one.
type repositoryModel struct {
	URL    types.String `tfsdk:"url"`
	Claim  types.String `tfsdk:"volume_claim"`
	Secret types.String `tfsdk:"credentials_secret"`
}

var repositoryTypes = map[string]tfattr.Type{"url": types.StringType, "volume_claim": types.StringType, "credentials_secret": types.StringType}

// Descriptions of the attribute repository.
const (
	urlDescription    = "The repository as restic writes it, without credentials: `s3:https://host/bucket/path`, `azure:container:/path`, `gs:bucket:/path`, `b2:bucket:path`, `swift:container:/path` or `rest:https://host/path`. Either this or `volume_claim`."
	claimDescription  = "A PersistentVolumeClaim in the cluster's namespace, whose volume is the repository. Either this or `url`."
	secretDescription = "Secret in the cluster's namespace whose keys are the environment variables that restic reads: `RESTIC_PASSWORD`, which encrypts the repository, and what the store takes, such as `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`. " +
		"Keys `ca.crt`, and `tls.crt` with `tls.key`, are the authority to trust and a certificate to show. Whoever loses the password loses the backups."
	imageDescription = "Image of restic, 0.17.1 or newer, with a shell. Default `" + restic.DefaultImage + "`."
)

// repositoryAttributes are the attributes of the repository that a resource works on.
func repositoryAttributes(modifiers ...planmodifier.String) map[string]schema.Attribute {
	return map[string]schema.Attribute{
		"url": schema.StringAttribute{
			Optional: true, Validators: []validator.String{check{"a repository as restic writes it", checkURL}}, PlanModifiers: modifiers, MarkdownDescription: urlDescription,
		},
		"volume_claim":       schema.StringAttribute{Optional: true, Validators: []validator.String{attr.SecretName()}, PlanModifiers: modifiers, MarkdownDescription: claimDescription},
		"credentials_secret": schema.StringAttribute{Required: true, Validators: []validator.String{attr.SecretName()}, MarkdownDescription: secretDescription},
	}
}

// parseRepository reads a repository, unless it is not known yet.
func parseRepository(ctx context.Context, o types.Object, diags *diag.Diagnostics) (r repositoryModel, known bool) {
	if o.IsNull() || o.IsUnknown() {
		return r, false
	}
	diags.Append(o.As(ctx, &r, basetypes.ObjectAsOptions{})...)
	return r, true
}

// isKnown reports whether nothing of it is unknown.
func (r repositoryModel) isKnown() bool {
	return !r.URL.IsUnknown() && !r.Claim.IsUnknown() && !r.Secret.IsUnknown()
}

// validate refuses a repository that is none, or two.
func (r repositoryModel) validate(diags *diag.Diagnostics) {
	if !r.URL.IsUnknown() && !r.Claim.IsUnknown() && r.URL.IsNull() == r.Claim.IsNull() {
		diags.Append(attr.Error(path.Root("repository"), "One repository", "Set either url or volume_claim."))
	}
}

func (r repositoryModel) spec() restic.Repository {
	return restic.Repository{URL: r.URL.ValueString(), Claim: r.Claim.ValueString(), Secret: r.Secret.ValueString()}
}

// clientOf prepares the work on a repository.
func clientOf(ctx context.Context, clients *attr.Clients, cluster string, r repositoryModel, image string, deadline time.Duration) (restic.Client, error) {
	namespace, name, err := server.ParseID(cluster)
	if err != nil {
		return restic.Client{}, err
	}
	k, err := clients.Kube(ctx)
	if err != nil {
		return restic.Client{}, err
	}
	c, err := clients.Consul(ctx, namespace, name)
	return restic.Client{Kube: k, Consul: c, Repository: r.spec(), Image: image, Deadline: deadline}, err
}

// jobError explains why a Job did not do its work.
func jobError(summary, did, cluster string, err error) diag.Diagnostic {
	var failed *restic.FailedError
	switch {
	case errors.As(err, &failed):
		detail := strings.TrimSpace(fmt.Sprintf("%s %s: %s", did, cluster, err))
		if failed.Explanation != "" {
			detail += "\n\n" + failed.Explanation
		}
		return diag.NewErrorDiagnostic(summary, detail)
	case errors.Is(err, restic.ErrNoCluster):
		return diag.NewAttributeErrorDiagnostic(path.Root("cluster"), "The cluster does not exist", "There is no cluster "+cluster+". Refer to the id of its consul_k8s_cluster.")
	default:
		return diag.NewErrorDiagnostic(summary, fmt.Sprintf("%s: %s", cluster, err))
	}
}

// check is a validator of a text.
type check struct {
	what string
	f    func(string) error
}

// Description implements validator.String.
func (c check) Description(context.Context) string { return c.what }

// MarkdownDescription implements validator.String.
func (c check) MarkdownDescription(ctx context.Context) string { return c.Description(ctx) }

// ValidateString implements validator.String.
func (c check) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	if err := c.f(req.ConfigValue.ValueString()); err != nil {
		resp.Diagnostics.Append(attr.Error(req.Path, "Not "+c.what, err.Error()+"."))
	}
}

func checkURL(text string) error {
	_, err := restic.KindOf(text)
	return err
}
