package attr

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-validators/mapvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	tfattr "github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/restic"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// LookUpTimeout limits how long a plan may look into a backup repository, including the pull of an image.
const LookUpTimeout = 3 * time.Minute

// MaxDeadline is the longest time that a Job may work on a repository.
const MaxDeadline = 24 * time.Hour

// Repository is the attribute repository of every resource that works on a repository.
type Repository struct {
	URL    types.String `tfsdk:"url"`
	Claim  types.String `tfsdk:"volume_claim"`
	Secret types.String `tfsdk:"credentials_secret"`
	// Account has the attributes of restic.ServiceAccount.
	Account types.Object `tfsdk:"service_account"`
	Options types.Map    `tfsdk:"options"`
}

var (
	// RepositoryTypes are the types of a Repository.
	RepositoryTypes = map[string]tfattr.Type{
		"url": types.StringType, "volume_claim": types.StringType, "credentials_secret": types.StringType,
		"service_account": types.ObjectType{AttrTypes: accountTypes}, "options": types.MapType{ElemType: types.StringType},
	}
	accountTypes = map[string]tfattr.Type{
		"name":           types.StringType,
		"annotations":    types.MapType{ElemType: types.StringType},
		"token_audience": types.StringType,
	}
)

// Descriptions of the attributes of a repository, and of the image.
const (
	RepositoryURLDescription = "Repository, in the notation of restic and without credentials: `s3:https://host/bucket/path`, " +
		"`azure:container:/path`, `gs:bucket:/path`, `b2:bucket:path`, `swift:container:/path`, `rest:https://host/path`, or " +
		"`sftp:user@host:/path`. Set either this or `volume_claim`."
	RepositoryClaimDescription = "PersistentVolumeClaim in the cluster's namespace whose volume is the repository. Set either this " +
		"or `url`."
	RepositoryCredentialsDescription = "Secret in the cluster's namespace whose keys are the environment variables that restic reads: " +
		"`RESTIC_PASSWORD`, which encrypts the repository, and the credentials of the store, such as `AWS_ACCESS_KEY_ID` and " +
		"`AWS_SECRET_ACCESS_KEY`, or for SFTP `ssh-privatekey` and `known_hosts`. " +
		"The key `ca.crt` is the certificate authority to trust, and `tls.crt` with `tls.key` is a client certificate. If you lose the " +
		"password, you lose the backups."
	RepositoryAccountDescription = "ServiceAccount that the Jobs run as, if a cloud gives a role to a ServiceAccount: IAM roles for " +
		"service accounts (EKS) or Workload Identity (GKE, AKS). " +
		"The Secret then needs no static keys for an `s3:`, `azure:`, or `gs:` repository. Set either `name` or, in a " +
		"`consul_k8s_backup_schedule`, `annotations`. Defaults to the ServiceAccount of the servers."
	RepositoryAccountNameDescription = "Name of a ServiceAccount in the cluster's namespace, such as `<cluster>-backup-<schedule>` " +
		"of a schedule with `annotations`."
	RepositoryAccountAnnotationsDescription = "Annotations of a ServiceAccount that the schedule creates as `<cluster>-backup-<schedule>`, " +
		"such as `eks.amazonaws.com/role-arn`. Only for a `consul_k8s_backup_schedule`."
	RepositoryAccountAudienceDescription = "Audience of a token of the ServiceAccount, such as `sts.amazonaws.com`. The token is in the " +
		"file `/identity/token`. Set this only if the cloud does not put a token into the pod itself. " +
		"The Secret then states whose token it is: `AWS_ROLE_ARN`, or `AZURE_TENANT_ID` and `AZURE_CLIENT_ID`, or " +
		"`GOOGLE_APPLICATION_CREDENTIALS`."
	RepositoryOptionsDescription = "Extended options of restic by name, such as `\"s3.bucket-lookup\" = \"dns\"` for a store that accepts " +
		"no other form of address. `restic options` lists them."

	ResticImageDescription = "Image of restic 0.17.1 or later, with a shell, by tag, by digest (`@sha256:…`), or by both. If it has both, " +
		"the digest decides, and the tag tells people what the image is. " +
		"The image runs with the password of the repository. Defaults to `" + restic.DefaultImage + "`, an index of images for several " +
		"architectures."
)

// RepositoryAttributes returns the attributes of the repository that a resource works on. modifiers are the plan modifiers
// of the attributes that say where the repository is.
func RepositoryAttributes(modifiers ...planmodifier.String) map[string]schema.Attribute {
	return map[string]schema.Attribute{
		"url": schema.StringAttribute{
			Optional: true, Validators: []validator.String{RepositoryURL()}, PlanModifiers: modifiers, MarkdownDescription: RepositoryURLDescription,
		},
		"volume_claim": schema.StringAttribute{
			Optional:            true,
			Validators:          []validator.String{SecretName()},
			PlanModifiers:       modifiers,
			MarkdownDescription: RepositoryClaimDescription,
		},
		"credentials_secret": schema.StringAttribute{
			Required:            true,
			Validators:          []validator.String{SecretName()},
			MarkdownDescription: RepositoryCredentialsDescription,
		},
		"service_account": schema.SingleNestedAttribute{
			Optional: true, MarkdownDescription: RepositoryAccountDescription,
			Attributes: map[string]schema.Attribute{
				"name": schema.StringAttribute{
					Optional:            true,
					Validators:          []validator.String{SecretName()},
					MarkdownDescription: RepositoryAccountNameDescription,
				},
				"annotations": schema.MapAttribute{
					Optional: true, ElementType: types.StringType, Validators: []validator.Map{mapvalidator.SizeAtLeast(1), Annotations()},
					MarkdownDescription: RepositoryAccountAnnotationsDescription,
				},
				"token_audience": schema.StringAttribute{
					Optional:            true,
					Validators:          []validator.String{stringvalidator.LengthAtLeast(1)},
					MarkdownDescription: RepositoryAccountAudienceDescription,
				},
			},
		},
		"options": schema.MapAttribute{
			Optional: true, ElementType: types.StringType, Validators: []validator.Map{mapvalidator.SizeAtLeast(1)},
			MarkdownDescription: RepositoryOptionsDescription,
		},
	}
}

// ParseRepository reads a repository. known is false if the repository is not set or not known yet.
func ParseRepository(ctx context.Context, o types.Object, diags *diag.Diagnostics) (r Repository, known bool) {
	if o.IsNull() || o.IsUnknown() {
		return r, false
	}
	diags.Append(o.As(ctx, &r, basetypes.ObjectAsOptions{})...)
	return r, true
}

// IsKnown reports whether all of it is known.
func (r Repository) IsKnown() bool {
	return !r.URL.IsUnknown() && !r.Claim.IsUnknown() && !r.Secret.IsUnknown() && allKnown(r.Account) && allKnown(r.Options)
}

// allKnown reports whether a value and everything in it is known.
func allKnown(v tfattr.Value) bool {
	var parts []tfattr.Value
	switch v := v.(type) {
	case types.Object:
		parts = slices.Collect(maps.Values(v.Attributes()))
	case types.Map:
		parts = slices.Collect(maps.Values(v.Elements()))
	}
	return !v.IsUnknown() && !slices.ContainsFunc(parts, func(part tfattr.Value) bool { return !allKnown(part) })
}

// Validate refuses an invalid repository, and one with annotations for a new ServiceAccount, because only a schedule creates
// one. at is the path of the repository.
func (r Repository) Validate(at path.Path, diags *diag.Diagnostics) {
	r.ValidateOfSchedule(at, diags)
	if mayBeSet(r.Account.Attributes()["annotations"]) {
		diags.Append(Error(
			at.AtName("service_account").AtName("annotations"),
			"No ServiceAccount is created here",
			"Only a consul_k8s_backup_schedule creates one, and only for as long as the schedule exists. Set service_account.name to the name of "+
				"a ServiceAccount that exists, such as <cluster>-backup-<schedule>.",
		))
	}
}

// ValidateOfSchedule refuses an invalid repository of a schedule.
func (r Repository) ValidateOfSchedule(at path.Path, diags *diag.Diagnostics) {
	if account := r.Account.Attributes(); len(account) > 0 {
		name, annotations := account["name"], account["annotations"]
		if !name.IsUnknown() && allKnown(annotations) && name.IsNull() == !mayBeSet(annotations) {
			diags.Append(
				Error(
					at.AtName("service_account"),
					"Invalid ServiceAccount",
					"Set either name, for a ServiceAccount that exists, or annotations, for a ServiceAccount that the schedule creates.",
				),
			)
		}
	}
	for name, value := range r.Options.Elements() {
		text, ok := value.(types.String)
		if !ok || text.IsNull() || text.IsUnknown() || r.URL.IsUnknown() || r.Claim.IsUnknown() {
			continue
		}
		if err := restic.CheckOption(r.URL.ValueString(), name, text.ValueString()); err != nil {
			diags.Append(Error(at.AtName("options"), "Invalid option", err.Error()+"."))
		}
	}
	if !r.URL.IsUnknown() && !r.Claim.IsUnknown() && r.URL.IsNull() == r.Claim.IsNull() {
		diags.Append(Error(at, "Invalid repository", "Set either url or volume_claim."))
	}
}

// mayBeSet reports whether a map is unknown or has an element that is not null.
func mayBeSet(v tfattr.Value) bool {
	m, ok := v.(types.Map)
	return ok &&
		(m.IsUnknown() || slices.ContainsFunc(slices.Collect(maps.Values(m.Elements())), func(e tfattr.Value) bool { return !e.IsNull() }))
}

// Spec converts the repository.
func (r Repository) Spec() restic.Repository {
	account := r.Account.Attributes()
	name, _ := account["name"].(types.String)
	annotations, _ := account["annotations"].(types.Map)
	audience, _ := account["token_audience"].(types.String)
	return restic.Repository{
		URL: r.URL.ValueString(), Claim: r.Claim.ValueString(), Secret: r.Secret.ValueString(), Options: ToStrings(r.Options),
		ServiceAccount: restic.ServiceAccount{
			Name:          name.ValueString(),
			Annotations:   ToStrings(annotations),
			TokenAudience: audience.ValueString(),
		},
	}
}

// RepositoryObject is the inverse of Repository.Spec. It returns prior if prior means the same, even if prior has null elements.
func RepositoryObject(ctx context.Context, prior types.Object, r restic.Repository, diags *diag.Diagnostics) types.Object {
	if p, ok := ParseRepository(ctx, prior, diags); ok && p.IsKnown() && reflect.DeepEqual(p.Spec(), r) {
		return prior
	}
	account := types.ObjectNull(accountTypes)
	if a := r.ServiceAccount; a.Name != "" || len(a.Annotations) > 0 {
		account = types.ObjectValueMust(accountTypes, map[string]tfattr.Value{
			"name":        OptionalString(a.Name),
			"annotations": FromStrings(types.MapNull(types.StringType), a.Annotations), "token_audience": OptionalString(a.TokenAudience),
		})
	}
	return types.ObjectValueMust(RepositoryTypes, map[string]tfattr.Value{
		"url": OptionalString(r.URL), "volume_claim": OptionalString(r.Claim), "credentials_secret": OptionalString(r.Secret),
		"service_account": account, "options": FromStrings(types.MapNull(types.StringType), r.Options),
	})
}

// CheckSecret makes a plan refuse incomplete credentials. If the Secret or the volume claim does not exist, it may still be
// created before the apply, so that is only a warning. The warning ends with otherwise, which says what happens if the object
// is not created. at is the path of the repository.
func (r Repository) CheckSecret(
	ctx context.Context,
	k *kube.Client,
	namespace string,
	at path.Path,
	otherwise string,
	diags *diag.Diagnostics,
) {
	err := restic.CheckSecret(ctx, k, namespace, r.Spec())
	secret := at.AtName("credentials_secret")
	switch {
	case errors.Is(err, restic.ErrNoClaim):
		diags.AddAttributeWarning(
			at.AtName("volume_claim"),
			"The volume claim does not exist yet",
			fmt.Sprintf("There is no PersistentVolumeClaim %s in the namespace %s. %s", r.Claim.ValueString(), namespace, otherwise),
		)
	case errors.Is(err, restic.ErrNoSecret):
		diags.AddAttributeWarning(
			secret,
			"The Secret does not exist yet",
			fmt.Sprintf("There is no Secret %s in the namespace %s. %s", r.Secret.ValueString(), namespace, otherwise),
		)
	case errors.As(err, new(*restic.KeysError)):
		diags.Append(Error(secret, "The credentials are incomplete", err.Error()+"."))
	case err != nil: // a right is missing, or there is no answer
		diags.AddAttributeWarning(
			secret,
			"The credentials were not checked",
			"The apply checks whether the credentials are complete. The plan could not: "+err.Error(),
		)
	}
}

// Interrupted reports that a person, or Terraform's time limit, ended the apply. Nothing failed, and the next apply resumes it.
func Interrupted(what string, err error) diag.Diagnostic {
	return diag.NewErrorDiagnostic("The operation was interrupted", fmt.Sprintf("%s: %s. Nothing failed. To resume, apply again.", what, err))
}

// JobError explains why a Job failed.
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
	case errors.Is(err, consulacl.ErrNotRestored):
		return NotRestored(cluster)
	case errors.Is(err, restic.ErrNoCluster):
		return diag.NewAttributeErrorDiagnostic(
			path.Root("cluster"),
			"The cluster does not exist",
			"There is no cluster "+cluster+". Use the id attribute of a consul_k8s_cluster.",
		)
	default:
		return diag.NewErrorDiagnostic(summary, fmt.Sprintf("%s: %s", cluster, err))
	}
}

// Image validates a reference to a container image.
func Image() validator.String {
	return Check("an image reference", func(text string) error {
		_, err := server.ParseImage(text)
		return err
	})
}

// RepositoryURL validates the URL of a repository.
func RepositoryURL() validator.String {
	return Check("a repository in the notation of restic", func(text string) error {
		_, err := restic.KindOf(text)
		return err
	})
}

// Snapshot validates a reference to a snapshot in a repository.
func Snapshot() validator.String {
	return Check("a snapshot ID, or \"latest\"", func(text string) error {
		if text != restic.Latest && (len(text) < 6 || len(text) > 64 || strings.Trim(text, "0123456789abcdef") != "") {
			return fmt.Errorf("%q is not a snapshot ID: write at least six hexadecimal digits of an ID, or %q", text, restic.Latest)
		}
		return nil
	})
}
