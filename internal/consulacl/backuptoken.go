package consulacl

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/hashicorp/consul/api"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
)

// backupTokens is the UUID name space of the accessor IDs of backup tokens.
var backupTokens = uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/consul-k8s/terraform-provider-consul-k8s#backup-token"))

// backupRules are the rights that a snapshot requires (Authorizer.Snapshot in acl/policy_authorizer.go of Consul), and those
// to ask which version the leader runs. They amount to all rights: a snapshot contains the secret ID of every token.
const backupRules = `acl = "write"
operator = "read"
node_prefix "" { policy = "read" }`

// backupDescription marks the policy of backups as the provider's.
const backupDescription = "Takes snapshots; made by terraform-provider-consul-k8s"

// backupPolicy is the name of the policy that all backup tokens of a cluster have.
const backupPolicy = "terraform-backup"

// BackupTokenAccessor is the accessor ID of the token of a backup schedule. It is derived from the name of the
// schedule, so that a token is found again and never created twice.
func BackupTokenAccessor(c *consul.Cluster, schedule string) string {
	return uuid.NewSHA1(backupTokens, []byte(c.ID()+"/"+schedule)).String()
}

// EnsureBackupToken creates the token of a backup schedule, unless it exists, and puts it into a key of a
// Secret. It needs the management token.
func EnsureBackupToken(ctx context.Context, c *consul.Cluster, schedule string, target Target) error {
	accessor, secret := BackupTokenAccessor(c, schedule), ""
	var err error
	if target.Labels, err = c.DeclaredLabels(ctx); err != nil {
		return err
	}
	err = Of(c).Do(ctx, func(client *api.Client) error {
		if err := ensureBackupPolicy(ctx, client); err != nil {
			return err
		}
		token, _, err := client.ACL().TokenRead(accessor, consistent(ctx))
		if consul.IsTokenMissing(err) {
			token, _, err = client.ACL().TokenCreate(&api.ACLToken{
				AccessorID: accessor, Description: "Backup schedule " + schedule, Policies: []*api.ACLLink{{Name: backupPolicy}},
			}, write(ctx))
		}
		if err != nil {
			return err
		}
		secret = token.SecretID
		return nil
	})
	if err != nil {
		return fmt.Errorf("creating the token of the backup schedule %s: %w", schedule, err)
	}
	return newDeliveries(c).Deliver(ctx, target, accessor, secret, "")
}

// BackupTokenDrift says what is wrong with the token of a backup schedule, "" if nothing is known to be wrong.
// While Consul does not answer, only the objects in Kubernetes count.
func BackupTokenDrift(ctx context.Context, c *consul.Cluster, schedule string, target Target) string {
	accessor := BackupTokenAccessor(c, schedule)
	token, err := Of(c).Tokens.Get(ctx, accessor)
	switch {
	case errors.Is(err, ErrNotFound):
		return "the token of the backups is gone, will be made"
	case err != nil:
		return ""
	}
	if target.Labels, err = c.DeclaredLabels(ctx); err != nil {
		return ""
	}
	if delivered, err := newDeliveries(c).Delivered(ctx, target, accessor, token.SecretID); err == nil && !delivered {
		return fmt.Sprintf("Secret %s: does not hold the token of the backups, will be written", target.Name)
	}
	var policy *api.ACLPolicy
	err = Of(c).Do(ctx, func(client *api.Client) (err error) {
		policy, _, err = client.ACL().PolicyReadByName(backupPolicy, consistent(ctx))
		return err
	})
	if err == nil && (policy == nil || policy.Rules != backupRules) {
		return "the policy " + backupPolicy + " is not as it was made, will be"
	}
	return ""
}

// RelabelBackupToken gives the Secret with the token of a backup schedule, if there is one, the labels that are declared for
// every object of the cluster.
func RelabelBackupToken(ctx context.Context, c *consul.Cluster, schedule string, target Target) (err error) {
	if target.Labels, err = c.DeclaredLabels(ctx); err != nil {
		return err
	}
	return newDeliveries(c).Relabel(ctx, target, BackupTokenAccessor(c, schedule))
}

func ensureBackupPolicy(ctx context.Context, client *api.Client) error {
	existing, _, err := client.ACL().PolicyReadByName(backupPolicy, consistent(ctx))
	switch {
	case err != nil:
		return err
	case existing == nil:
		_, _, err = client.ACL().PolicyCreate(&api.ACLPolicy{Name: backupPolicy, Description: backupDescription, Rules: backupRules}, write(ctx))
		if err != nil { // another schedule may have been faster
			if made, _, readErr := client.ACL().PolicyReadByName(backupPolicy, consistent(ctx)); readErr == nil && made != nil {
				return nil
			}
		}
		return err
	case existing.Description != backupDescription:
		return fmt.Errorf("a policy %s exists, and this provider did not create it: rename that policy", backupPolicy)
	case existing.Rules != backupRules:
		existing.Rules = backupRules
		_, _, err = client.ACL().PolicyUpdate(existing, write(ctx))
		return err
	}
	return nil
}

// DeleteBackupToken deletes the token of a backup schedule and removes it from the Secret. The policy is
// deleted with the last token that uses it. It is not an error if the token, the Secret, or the whole cluster
// no longer exists.
func DeleteBackupToken(ctx context.Context, c *consul.Cluster, schedule string, target Target) error {
	accessor := BackupTokenAccessor(c, schedule)
	err := Of(c).Tokens.Delete(ctx, accessor)
	if err == nil {
		err = Of(c).Do(ctx, func(client *api.Client) error { return deleteUnusedBackupPolicy(ctx, client) })
	}
	if err != nil && !hasNoTokens(ctx, c, err) {
		return fmt.Errorf("deleting the token of the backup schedule %s: %w", schedule, err)
	}
	// The Secret is deleted last: while it exists, somebody can see that a token is left.
	return newDeliveries(c).Withdraw(ctx, target, accessor)
}

// hasNoTokens reports whether an error of ACL says that there are no tokens to delete: the cluster is gone,
// or runs without ACLs.
func hasNoTokens(ctx context.Context, c *consul.Cluster, err error) bool {
	if errors.Is(err, ErrCredential) { // without ACLs there is no management token either
		err = checkACLs(ctx, c)
	}
	return errors.Is(err, ErrNoCluster) || errors.Is(err, ErrACLDisabled)
}

func deleteUnusedBackupPolicy(ctx context.Context, client *api.Client) error {
	policy, _, err := client.ACL().PolicyReadByName(backupPolicy, consistent(ctx))
	if err != nil || policy == nil || policy.Description != backupDescription {
		return err
	}
	left, _, err := client.ACL().TokenListFiltered(api.ACLTokenFilterOptions{Policy: policy.ID}, consistent(ctx))
	if err != nil || len(left) > 0 {
		return err
	}
	_, err = client.ACL().PolicyDelete(policy.ID, write(ctx))
	if consul.IsMissing(err) { // another schedule that is destroyed at the same time was faster
		return nil
	}
	return err
}
