package consulacl

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
)

// Types of auth methods that Consul's community edition knows (the calls of
// authmethod.Register in agent/consul/authmethod of Consul 1.22). OIDC is
// Consul Enterprise.
const (
	AuthMethodKubernetes = "kubernetes"
	AuthMethodJWT        = "jwt"
	AuthMethodAWS        = "aws-iam"
)

// keysOf are the keys that the configuration of an auth method may have
// (agent/consul/authmethod/ssoauth and awsauth of Consul 1.22, the same in 1.21).
// None of them is a secret.
func keysOf(authMethodType string) []string {
	switch authMethodType {
	case AuthMethodJWT:
		return []string{
			"JWTSupportedAlgs", "BoundAudiences", "ClaimMappings", "ListClaimMappings", keyDiscoveryURL, "OIDCDiscoveryCACert",
			keyJWKSURL, "JWKSCACert", keyPublicKeys, "BoundIssuer", keyExpirationLeeway, keyNotBeforeLeeway, keyClockSkewLeeway,
		}
	case AuthMethodAWS:
		return []string{
			keyPrincipals, keyEntityDetails, keyEntityTags, "ServerIDHeaderValue", "MaxRetries", "IAMEndpoint", "STSEndpoint",
			"AllowedSTSHeaderValues",
		}
	case AuthMethodKubernetes:
		return []string{keyHost, keyCACert}
	}
	return nil
}

const (
	keyDiscoveryURL = "OIDCDiscoveryURL"
	keyJWKSURL      = "JWKSURL"
	keyPublicKeys   = "JWTValidationPubKeys"

	keyExpirationLeeway = "ExpirationLeeway"
	keyNotBeforeLeeway  = "NotBeforeLeeway"
	keyClockSkewLeeway  = "ClockSkewLeeway"

	keyPrincipals    = "BoundIAMPrincipalARNs"
	keyEntityDetails = "EnableIAMEntityDetails"
	keyEntityTags    = "IAMEntityTags"
)

// PublicConfig is the part of an auth method's configuration that is no secret.
func PublicConfig(authMethodType string, config map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range config {
		if isOneOf(keysOf(authMethodType), k) {
			out[k] = v
		}
	}
	return out
}

// isOneOf compares as Consul does, without regard to case.
func isOneOf(keys []string, key string) bool {
	return slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, key) })
}

// CheckAuthConfig returns an error if Consul would refuse a configuration of the type jwt or aws-iam. It does
// not check what the configuration refers to.
func CheckAuthConfig(authMethodType string, config map[string]any) error {
	for _, k := range slices.Sorted(maps.Keys(config)) {
		enterprise := []string{
			"OIDCClientID", "OIDCClientSecret", "OIDCClientAssertion", "OIDCClientUsePKCE", "OIDCScopes", "OIDCACRValues", "AllowedRedirectURIs",
			"VerboseOIDCLogging",
			"MapNamespaces", "ConsulNamespacePrefix", "ConsulNamespaceOverrides",
		}
		text, isText := config[k].(string)
		d, err := time.ParseDuration(text)
		switch {
		case isText && err == nil && isOneOf([]string{keyExpirationLeeway, keyNotBeforeLeeway, keyClockSkewLeeway}, k):
			return fmt.Errorf("%s is a number of nanoseconds: write %d for %s", k, d.Nanoseconds(), text)
		case isOneOf(keysOf(authMethodType), k):
		case isOneOf(enterprise, k):
			return fmt.Errorf("%s requires Consul Enterprise", k)
		default:
			return fmt.Errorf("the type %s has no key %s; its keys are %s", authMethodType, k, strings.Join(keysOf(authMethodType), ", "))
		}
	}
	has := func(key string) bool {
		for k, v := range config {
			if strings.EqualFold(k, key) {
				l, isList := v.([]any)
				return v != nil && v != "" && v != false && (!isList || len(l) > 0)
			}
		}
		return false
	}
	switch authMethodType {
	case AuthMethodJWT:
		n := 0
		for _, k := range []string{keyPublicKeys, keyJWKSURL, keyDiscoveryURL} {
			if has(k) {
				n++
			}
		}
		switch {
		case n != 1:
			return fmt.Errorf("exactly one of %s, %s and %s must be set", keyPublicKeys, keyJWKSURL, keyDiscoveryURL)
		case has("JWKSCACert") && !has(keyJWKSURL):
			return fmt.Errorf("JWKSCACert requires %s, which is not set", keyJWKSURL)
		case has("OIDCDiscoveryCACert") && !has(keyDiscoveryURL):
			return fmt.Errorf("OIDCDiscoveryCACert requires %s, which is not set", keyDiscoveryURL)
		}
	case AuthMethodAWS:
		switch {
		case !has(keyPrincipals):
			return fmt.Errorf("%s must be set", keyPrincipals)
		case has(keyEntityTags) && !has(keyEntityDetails):
			return fmt.Errorf("%s requires %s", keyEntityTags, keyEntityDetails)
		}
	}
	return nil
}

// Keys of the configuration of an auth method of the type kubernetes
// (agent/consul/authmethod/kubeauth of Consul).
const (
	keyHost              = "Host"
	keyCACert            = "CACert"
	keyServiceAccountJWT = "ServiceAccountJWT"
)

// KubernetesAuth is the configuration of an auth method of the type kubernetes.
type KubernetesAuth struct {
	// Host is the address of the API server, CACert its certificate authority, PEM.
	Host, CACert string
	// ServiceAccountJWT is the token, a secret, with which Consul asks the API server.
	ServiceAccountJWT string
}

// Config is the configuration in the form that Consul accepts.
func (k KubernetesAuth) Config() map[string]any {
	return map[string]any{keyHost: k.Host, keyCACert: k.CACert, keyServiceAccountJWT: k.ServiceAccountJWT}
}

// KubernetesAuthOf reads the configuration of an auth method of the type
// kubernetes.
func KubernetesAuthOf(config map[string]any) KubernetesAuth {
	text := func(key string) string {
		s, _ := config[key].(string)
		return s
	}
	return KubernetesAuth{Host: text(keyHost), CACert: text(keyCACert), ServiceAccountJWT: text(keyServiceAccountJWT)}
}

// SameConfig reports whether two configurations of auth methods are the same.
func SameConfig(a, b map[string]any) bool { return sameJSON(a, b) }

// AuthMethodIsFree returns ErrExists if there is an auth method with the name, unless it has the same content,
// as an interrupted create leaves it.
func (a *ACL) AuthMethodIsFree(ctx context.Context, wanted api.ACLAuthMethod) error {
	existing, err := a.AuthMethods.Read(ctx, wanted.Name)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	case !SameAuthMethod(wanted, *existing):
		return fmt.Errorf("auth method %s of %s: %w", wanted.Name, a.cluster.ID(), ErrExists)
	}
	return nil
}

// ChangeAuthMethod changes an auth method, or creates it again if it no longer exists. It keeps the settings
// that wanted does not specify.
func (a *ACL) ChangeAuthMethod(ctx context.Context, wanted api.ACLAuthMethod) (*api.ACLAuthMethod, error) {
	existing, err := a.AuthMethods.Read(ctx, wanted.Name)
	if errors.Is(err, ErrNotFound) {
		return a.AuthMethods.Create(ctx, wanted)
	}
	if err != nil {
		return nil, err
	}
	wanted.TokenNameFormat, wanted.NamespaceRules = existing.TokenNameFormat, existing.NamespaceRules
	return a.AuthMethods.Update(ctx, wanted)
}

// loginTimeout is how long CheckLogin tries: new rights take a moment to apply, and an address that does not
// answer must not hold up an apply.
const loginTimeout = 20 * time.Second

// CheckLogin finds out whether pods can log in through an auth method of the
// type kubernetes: whether the servers reach the API server, trust it, and may
// review tokens. It logs in with the token reviewer's own token, and out again.
func (a *ACL) CheckLogin(ctx context.Context, authMethod, jwt string) error {
	var last error
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	err := kube.Wait(ctx, "a login", time.Second, func(ctx context.Context) (string, error) {
		if err := a.login(ctx, authMethod, jwt); err != nil {
			if ctx.Err() == nil {
				last = err
			}
			return "it failed", nil
		}
		return "", nil
	})
	if err != nil && last != nil {
		return last
	}
	return err
}

// login returns no error if the token was checked, whether or not anything is bound to it.
func (a *ACL) login(ctx context.Context, authMethod, jwt string) error {
	var token *api.ACLToken
	err := a.cluster.Any(ctx, "", func(client *api.Client) (err error) {
		token, _, err = client.ACL().Login(&api.ACLLoginParams{AuthMethod: authMethod, BearerToken: jwt}, write(ctx))
		return err
	})
	switch {
	case err == nil: // a binding rule gave it rights
		return a.cluster.Any(ctx, token.SecretID, func(client *api.Client) error {
			_, err := client.ACL().Logout(write(ctx))
			return err
		})
	case consul.AsPermissionError(err) != nil: // the token is valid, and nothing is bound to it
		return nil //nolint:nilerr // as documented
	}
	return err
}
