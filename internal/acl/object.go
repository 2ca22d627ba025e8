package acl

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/identityschema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/session"
)

// object is the common part of the resources of single ACL objects. Its methods
// decide what the errors of internal/consulacl mean for the state.
type object struct {
	clients *session.Clients
	// kind is a word for the user, such as "policy"; typeName is the type of the resource; importKey is by what a resource is
	// imported, such as "name".
	kind, typeName, importKey string
}

// objectIdentity is the identity of an ACL object.
type objectIdentity struct {
	Cluster types.String `tfsdk:"cluster"`
	ID      types.String `tfsdk:"id"`
}

// Metadata implements resource.Resource.
func (o *object) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = o.typeName
}

// Configure implements resource.ResourceWithConfigure.
func (o *object) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	clients, diags := session.FromProviderData(req.ProviderData)
	resp.Diagnostics.Append(diags...)
	o.clients = clients
}

// IdentitySchema implements resource.ResourceWithIdentity.
func (o *object) IdentitySchema(_ context.Context, _ resource.IdentitySchemaRequest, resp *resource.IdentitySchemaResponse) {
	resp.IdentitySchema = identityschema.Schema{Attributes: map[string]identityschema.Attribute{
		"cluster": identityschema.StringAttribute{RequiredForImport: true, Description: "ID of the cluster, \"<namespace>/<name>\"."},
		"id":      identityschema.StringAttribute{RequiredForImport: true, Description: "ID of the " + o.kind + "."},
	}}
}

// ImportState implements resource.ResourceWithImportState. Read resolves the
// name, if it is one.
func (o *object) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	cluster, id := "", ""
	if req.ID == "" {
		var identity objectIdentity
		resp.Diagnostics.Append(req.Identity.Get(ctx, &identity)...)
		if resp.Diagnostics.HasError() {
			return
		}
		cluster, id = identity.Cluster.ValueString(), identity.ID.ValueString()
	} else if parts := strings.SplitN(req.ID, "/", 3); len(parts) == 3 { // a policy's name may have slashes
		cluster, id = parts[0]+"/"+parts[1], parts[2]
	}
	if _, _, err := server.ParseID(cluster); err != nil || id == "" {
		resp.Diagnostics.AddError(
			"Invalid import ID",
			fmt.Sprintf("%q is not of the form \"<namespace>/<cluster>/<%s>\".", req.ID, o.importKey),
		)
		return
	}
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("cluster"), cluster)...)
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("id"), id)...)
}

// importCommand returns the command that imports an existing object.
func (o *object) importCommand(cluster, id string) string {
	return fmt.Sprintf("terraform import %s.<name> '%s/%s'", o.typeName, cluster, id)
}

// acl connects to the ACL system of a cluster.
func (o *object) acl(ctx context.Context, cluster string) (*consulacl.ACL, error) {
	namespace, name, err := server.ParseID(cluster)
	if err != nil {
		return nil, err
	}
	c, err := o.clients.Consul(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	return consulacl.Of(c), nil
}

// reading connects for a refresh. It returns nil if the connection failed, or if
// the state stays as it is because the cluster is not known. It sets the identity in
// any case, because versions of Terraform without identities do not pass one.
func (o *object) reading(ctx context.Context, cluster, id types.String, imported bool, resp *resource.ReadResponse) *consulacl.ACL {
	if !imported {
		resp.Diagnostics.Append(resp.Identity.Set(ctx, objectIdentity{Cluster: cluster, ID: id})...)
	}
	o.clients.Claims.MarkRead(claimOf(o.kind, cluster.ValueString(), id.ValueString()))
	if o.clients.Unknown {
		if imported {
			resp.Diagnostics.Append(session.ConnectError(session.ErrUnknown))
		}
		return nil
	}
	return o.changing(ctx, cluster, &resp.Diagnostics)
}

// changing connects for a change. It returns nil if that failed.
func (o *object) changing(ctx context.Context, cluster types.String, diags *diag.Diagnostics) *consulacl.ACL {
	a, err := o.acl(ctx, cluster.ValueString())
	if err != nil {
		diags.Append(session.ConnectError(err))
		return nil
	}
	return a
}

// forPlan connects to the ACL system at plan time. It returns nil if a plan cannot
// ask Consul yet, for example because the cluster is not known. The apply reports
// such problems.
func (o *object) forPlan(ctx context.Context, cluster types.String) *consulacl.ACL {
	if o.clients == nil || o.clients.Unknown || cluster.IsUnknown() || cluster.IsNull() {
		return nil
	}
	a, err := o.acl(ctx, cluster.ValueString())
	if err != nil {
		return nil
	}
	return a
}

// mayWrite adds an error to the plan if the management token lacks the right to
// apply it. It returns whether Consul can be asked at all.
func (o *object) mayWrite(ctx context.Context, a *consulacl.ACL, diags *diag.Diagnostics) bool {
	if a == nil {
		return false
	}
	if err := answers(ctx, a); err != nil {
		if errors.Is(err, consulacl.ErrNoCluster) {
			warnOfNoCluster(o.clients, a.Cluster().ID(), diags)
		}
		return false
	}
	if err := a.Authorize(ctx, "write"); isPermission(err) {
		diags.Append(o.failed("change", "", err))
		return true
	}
	return true
}

// answers returns an error if Consul cannot be asked. The shared list shows this quickly.
func answers(ctx context.Context, a *consulacl.ACL) error {
	if _, err := a.Policies.List(ctx); err != nil && !isPermission(err) {
		return err
	}
	return nil
}

// forDestroy connects to the ACL system for the warnings in the plan of a destroy, and lists the tokens. ok is false if Consul cannot
// be asked. It never adds an error, because a destroy may be the only thing that is left to do.
func (o *object) forDestroy(ctx context.Context, cluster types.String) (a *consulacl.ACL, tokens []*api.ACLTokenListEntry, ok bool) {
	if a = o.forPlan(ctx, cluster); a == nil || answers(ctx, a) != nil {
		return nil, nil, false
	}
	tokens, err := a.Tokens.List(ctx)
	return a, tokens, err == nil
}

// warnOfNoCluster warns, once in each run, that a cluster does not exist. It does
// not warn if the cluster is planned, which happens before the plan of what refers to it.
func warnOfNoCluster(clients *session.Clients, cluster string, diags *diag.Diagnostics) {
	if _, planned := clients.Claims.PlannedCluster(cluster); planned {
		return
	}
	if _, first := clients.Claims.Claim("absence of cluster "+cluster, session.NewOwner, ""); first {
		diags.AddAttributeWarning(path.Root("cluster"), "There is no such cluster", fmt.Sprintf(
			"Cluster %s does not exist, and no consul_k8s_cluster that was planned so far creates it. If a resource creates the cluster, refer "+
				"to the attribute id of that resource, or to the attribute cluster of its consul_k8s_acl_bootstrap, so that the cluster is created "+
				"first. Otherwise, correct the name.",
			cluster,
		))
	}
}

// warnOnce drops the warnings if Terraform plans the same change again during an apply: they were printed with the first plan.
// It cannot tell this for a resource that does not exist yet, which has no ID.
func (o *object) warnOnce(cluster, id types.String, diags *diag.Diagnostics) {
	if o.clients == nil || id.ValueString() == "" || o.clients.Claims.WasRead(claimOf(o.kind, cluster.ValueString(), id.ValueString())) {
		return
	}
	*diags = diags.Errors()
}

func isPermission(err error) bool {
	var p *consul.PermissionError
	return errors.As(err, &p)
}

// isGone reports that an object does not exist, according to Consul, asked with a valid credential, or to Kubernetes.
func isGone(err error) bool {
	return errors.Is(err, consulacl.ErrNotFound) || errors.Is(err, consulacl.ErrNoCluster)
}

// readFailed decides what a failed read means. It reports whether the object must
// be removed from the state: only if it is gone. Otherwise, the state stays as it
// is, so that a plan can fix the cause; for an import, every failure is an error.
func (o *object) readFailed(err error, imported bool, diags *diag.Diagnostics) (gone bool) {
	switch {
	case errors.Is(err, errReported):
	case imported && isGone(err):
		diags.AddError("Cannot import the "+o.kind, err.Error()+".")
	case isGone(err):
		return true
	case !imported && (errors.Is(err, consulacl.ErrUnreachable) || errors.Is(err, consulacl.ErrCredential) ||
		errors.Is(err, consulacl.ErrACLDisabled) ||
		errors.Is(err, consulacl.ErrNotRestored) || errors.As(err, new(*consulacl.SecretError))):
		diags.AddWarning("The ACL system was not read",
			"The state stays as it is, and may be outdated: "+err.Error()+".")
	default:
		diags.Append(o.failed("read", "", err))
	}
	return false
}

// failed returns the diagnostic of a failed call, which says what to do.
func (o *object) failed(doing, importCommand string, err error) diag.Diagnostic {
	summary := fmt.Sprintf("Cannot %s the %s", doing, o.kind)
	var permission *consul.PermissionError
	var namespace *consulacl.NamespaceError
	switch {
	case errors.As(err, &namespace):
		return diag.NewErrorDiagnostic(summary, fmt.Sprintf(
			"%s, so the token cannot be delivered. Create the namespace and apply again, or deliver the token to another namespace.", err))
	case errors.As(err, &permission):
		return diag.NewErrorDiagnostic(
			summary,
			err.Error()+". It is not the management token that consul_k8s_acl_bootstrap stored. Put that token back into its Secret, or set the "+
				"attribute reset of that resource to a new value.",
		)
	case errors.Is(err, consulacl.ErrExists) && importCommand != "":
		return diag.NewErrorDiagnostic(summary, fmt.Sprintf("%s. To manage the existing one, import it: %s", err, importCommand))
	case errors.Is(err, consulacl.ErrCredential):
		return diag.NewErrorDiagnostic(
			summary,
			err.Error()+". Refer to the cluster as consul_k8s_acl_bootstrap.<name>.cluster, so that ACLs are bootstrapped first. "+
				"If the management token is lost, set the attribute reset of that resource to a new value, and apply that resource first: "+
				"-target=consul_k8s_acl_bootstrap.<name>.",
		)
	case errors.Is(err, consulacl.ErrACLDisabled):
		return diag.NewErrorDiagnostic(
			summary,
			err.Error()+". Set acl = { enabled = true, default_policy = \"allow\" } on the cluster, and add a consul_k8s_acl_bootstrap.",
		)
	}
	return diag.NewErrorDiagnostic(summary, err.Error()+".")
}

// claimName claims the name of an object at plan time. Two resources with the same
// name are an error. It returns the ID of the object that this one replaces.
func (o *object) claimName(cluster, name, owner types.String, config tfsdk.Config, diags *diag.Diagnostics) (replaces string) {
	if o.clients == nil || cluster.IsUnknown() || name.IsUnknown() {
		return ""
	}
	replaces, ok := o.clients.Claims.Claim(
		claimOf(o.kind, cluster.ValueString(), name.ValueString()),
		owner.ValueString(),
		fingerprint(config),
	)
	if !ok {
		diags.Append(attr.Errorf(path.Root("name"), "Duplicate name",
			"another %s declares the name %q in cluster %s too. Remove one of the two.", o.typeName, name.ValueString(),
			cluster.ValueString()))
	}
	return replaces
}

// nameTaken reports an object that already has a planned name. It is only a warning if the content is the same, as an interrupted
// create leaves it, because the apply adopts such an object.
func (o *object) nameTaken(cluster, name types.String, same bool, diags *diag.Diagnostics) {
	article, summary := "a", "The "+o.kind+" already exists"
	if strings.HasPrefix(o.kind, "a") {
		article = "an"
	}
	found := fmt.Sprintf("luster %s already has %s %s %q", cluster.ValueString(), article, o.kind, name.ValueString())
	if same {
		diags.AddAttributeWarning(path.Root("name"), summary,
			"C"+found+" with the same content, for example from an interrupted apply. The apply adopts it.")
		return
	}
	diags.Append(attr.Error(path.Root("name"), summary,
		"c"+found+". Choose another name, or import it: "+o.importCommand(cluster.ValueString(), name.ValueString())))
}

// named finds an object in the list by its name, or returns consulacl.ErrNotFound.
func named[T, L any](
	ctx context.Context,
	a *consulacl.ACL,
	objects *consulacl.Objects[T, L],
	kind, name string,
	nameOf func(L) string,
) (entry L, err error) {
	list, err := objects.List(ctx)
	if err != nil {
		return entry, err
	}
	i := slices.IndexFunc(list, func(e L) bool { return nameOf(e) == name })
	if i < 0 {
		return entry, fmt.Errorf("%s %s of %s: %w", kind, name, a.Cluster().ID(), consulacl.ErrNotFound)
	}
	return list[i], nil
}

// fingerprint distinguishes configurations without revealing them.
func fingerprint(config tfsdk.Config) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(config.Raw.String())))
}

// claimOf names something in a cluster that one resource owns.
func claimOf(kind, cluster, name string) string { return kind + " " + cluster + " " + name }

// keep records that an object belongs to a resource that this run has created. If
// another resource is destroyed, such as the same one under its old address, it
// does not delete the object.
func (o *object) keep(cluster, id types.String) {
	o.clients.Claims.Claim(claimOf("kept "+o.kind, cluster.ValueString(), id.ValueString()), session.NewOwner, "")
}

// alone waits until nothing else in this run creates or deletes an object with the same name (for binding rules: with the same
// auth method), and makes others wait until release is called. If the address of a resource changes in the configuration,
// Terraform destroys it under the old address and creates it under the new one at the same time: either the new object is kept,
// or it is created after the old one is gone. If the apply is interrupted meanwhile, release is nil. A null name waits for nothing.
func (o *object) alone(ctx context.Context, cluster, name types.String, diags *diag.Diagnostics) (release func()) {
	if name.IsNull() {
		return func() {}
	}
	release, err := o.clients.Objects.Lock(ctx, claimOf(o.kind, cluster.ValueString(), name.ValueString()))
	if err != nil {
		diags.Append(attr.Interrupted(fmt.Sprintf("Waiting for another %s %s", o.kind, name.ValueString()), err))
	}
	return release
}

// isKept reports whether an object was kept.
func (o *object) isKept(cluster, id types.String) bool {
	return o.clients.Claims.Claimed(claimOf("kept "+o.kind, cluster.ValueString(), id.ValueString()))
}

// leaving is the claim of an object that is planned to be destroyed.
func leaving(kind, cluster, id string) string { return claimOf("leaving "+kind, cluster, id) }

// leave records, at plan time, that an object is planned to be destroyed.
func (o *object) leave(cluster, id types.String) {
	if o.clients != nil {
		o.clients.Claims.Claim(leaving(o.kind, cluster.ValueString(), id.ValueString()), id.ValueString(), "")
	}
}

// leaves reports whether an object of any kind is planned to be destroyed.
func (o *object) leaves(kind string, cluster types.String, id string) bool {
	return o.clients.Claims.Claimed(leaving(kind, cluster.ValueString(), id))
}

// warnInUse names what loses the rights of an object that is deleted.
func (o *object) warnInUse(ctx context.Context, cluster, name types.String, diags *diag.Diagnostics, users func() []string) {
	if stay := thatStay(ctx, users); len(stay) > 0 {
		diags.AddWarning("The "+o.kind+" is in use", fmt.Sprintf("Deleting the %s %q of %s takes its rights from: %s.",
			o.kind, name.ValueString(), cluster.ValueString(), atMost(stay, 20)))
	}
}

// leaveTimeout is how long the plan of a destroy waits for the plans of what uses the object. Terraform makes these plans at
// the same time and in any order if the configuration is gone, or if nothing in it refers from one to the other.
const leaveTimeout = 1500 * time.Millisecond

// thatStay returns the users of an object that are not planned to be destroyed too. It returns as soon as there are none, or
// after leaveTimeout, which gives the plans of the others time.
func thatStay(ctx context.Context, users func() []string) []string {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	_ = kube.Wait(
		ctx,
		"the plans of its users",
		50*time.Millisecond,
		func(context.Context) (string, error) { // the users that are left are the answer
			return strings.Join(users(), ", "), nil
		},
	)
	return users()
}

// tokensThatStay names the tokens that use an object, except those that are planned
// to be destroyed too. Login tokens come and go, so it names only their auth method.
func (o *object) tokensThatStay(
	cluster types.String,
	tokens []*api.ACLTokenListEntry,
	uses func(*api.ACLTokenListEntry) bool,
) (names []string) {
	for _, t := range tokens {
		name := tokenTitle(t)
		switch {
		case !uses(t) || o.leaves("token", cluster, t.AccessorID):
			continue
		case t.AuthMethod != "" && o.leaves(authMethodKind, cluster, t.AuthMethod):
			continue
		case t.AuthMethod != "":
			name = fmt.Sprintf("login tokens of the auth method %q", t.AuthMethod)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func links(l []*api.ACLLink, id string) bool {
	return slices.ContainsFunc(l, func(l *api.ACLLink) bool { return l.ID == id })
}

func tokenTitle(t *api.ACLTokenListEntry) string {
	if t.Description == "" {
		return "token " + t.AccessorID
	}
	return fmt.Sprintf("token %s (%s)", t.AccessorID, t.Description)
}

// atMost joins up to n names, and counts the others.
func atMost(names []string, n int) string {
	if len(names) <= n {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:n], ", "), len(names)-n)
}

// objectAttributes are the attributes of an objectModel for a kind of object, and others.
func objectAttributes(ctx context.Context, kind string, attributes map[string]schema.Attribute) map[string]schema.Attribute {
	if attributes["id"] == nil {
		attributes["id"] = schema.StringAttribute{
			Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
			MarkdownDescription: "ID of the " + kind + ", a UUID that Consul chooses.",
		}
	}
	attributes["description"] = schema.StringAttribute{
		Optional: true, Computed: true, Default: stringdefault.StaticString(""), MarkdownDescription: "Description of the " + kind + ".",
	}
	attributes["cluster"] = schema.StringAttribute{
		Required: true, Validators: []validator.String{attr.ClusterID()},
		PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
		MarkdownDescription: "ID of the cluster, `<namespace>/<name>`. Refer to the attribute `cluster` of its `consul_k8s_acl_bootstrap`, so " +
			"that ACLs are bootstrapped first. " +
			"A change replaces the object.",
	}
	waits := func(change string) string {
		return "How long " + change + " waits for a server that is overloaded or has no leader. Defaults to `5m`."
	}
	attributes["timeouts"] = timeouts.Attributes(ctx, timeouts.Opts{
		Create: true, Update: true, Delete: true,
		CreateDescription: waits("a create"), UpdateDescription: waits("an update"), DeleteDescription: waits("a delete"),
	})
	return attributes
}
