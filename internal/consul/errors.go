package consul

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"
)

// This file is the only place that reads the texts of Consul's errors.

// statusOf returns the status and the body of an answer that was not 2xx.
func statusOf(err error) (code int, body string, ok bool) {
	var s api.StatusError
	if !errors.As(err, &s) {
		return 0, "", false
	}
	return s.Code, strings.TrimSpace(strings.TrimPrefix(s.Body, "rpc error making call: ")), true
}

// IsForbidden reports whether a server refused a request because a right is missing.
func IsForbidden(err error) bool {
	code, _, ok := statusOf(err)
	return ok && code == http.StatusForbidden
}

// IsUnknownToken reports whether a server does not know, or no longer knows, the
// token that was presented to it. With ACLs on, everything but login answers so.
func IsUnknownToken(err error) bool {
	code, body, ok := statusOf(err)
	return ok && code == http.StatusForbidden && (body == "ACL not found" || IsTokenMissing(err))
}

// IsTokenMissing reports whether the token that was asked for does not exist
// (GET /v1/acl/token/:accessor answers 403 for it, not 404).
func IsTokenMissing(err error) bool {
	_, body, ok := statusOf(err)
	return ok && (strings.HasPrefix(body, "token does not exist") || strings.HasPrefix(body, "token has expired"))
}

// IsACLDisabled reports whether the server runs without ACLs.
func IsACLDisabled(err error) bool {
	_, body, ok := statusOf(err)
	return ok && strings.Contains(body, "ACL support disabled")
}

// isNoLeader reports whether the cluster has no leader at the moment.
func isNoLeader(err error) bool {
	_, body, ok := statusOf(err)
	return ok && (strings.Contains(body, "No cluster leader") || strings.Contains(body, "leadership lost") ||
		strings.Contains(body, "node is not the leader") || strings.Contains(body, "leadership transfer in progress") ||
		strings.Contains(body, "Not ready to serve consistent reads") || strings.Contains(body, "Raft leader not found in server "+
		"lookup mapping") ||
		strings.Contains(body, "rpc error getting client") || strings.Contains(body, "The ACL system is currently in legacy mode") ||
		strings.Contains(body, "ACL system must be bootstrapped") ||
		slices.ContainsFunc(brokenConnection, func(end string) bool { return strings.HasSuffix(body, end) }))
}

// brokenConnection are the ends of answers from a follower whose connection to the leader broke while it
// forwarded a request: the leader died or restarts. Which end it is depends on the moment.
// (github.com/hashicorp/yamux, const.go; the standard library's net, io and syscall.)
var brokenConnection = []string{
	"EOF", "session shutdown", "stream closed", "stream reset", "connection write timeout", "keepalive timeout", "i/o deadline reached",
	"remote end is not accepting connections", "connection reset by peer", "broken pipe", "use of closed network connection", "i/o timeout",
}

// AnotherMayAnswer reports whether another server may answer differently: this one
// was not reached, has no leader, or asks to try again.
func AnotherMayAnswer(err error) bool {
	code, _, ok := statusOf(err)
	return !ok || isNoLeader(err) || code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable ||
		code == http.StatusBadGateway
}

// IsUnknownCredential reports whether a server does not know, or no longer
// knows, the token that the request was made with. Unlike the answers to a
// missing object, the body is nothing but this.
func IsUnknownCredential(err error) bool {
	code, body, ok := statusOf(err)
	return ok && code == http.StatusForbidden && body == "ACL not found"
}

// UnknownCredentialError is the answer of IsUnknownCredential.
func UnknownCredentialError() error {
	return api.StatusError{Code: http.StatusForbidden, Body: "ACL not found"}
}

// IsMissing reports whether a read found no object of the ID.
func IsMissing(err error) bool {
	code, _, ok := statusOf(err)
	return ok && code == http.StatusNotFound || IsTokenMissing(err)
}

// IsUpdateOfMissing reports whether the object to be changed does not exist
// (500 "Cannot find token …").
func IsUpdateOfMissing(err error) bool {
	_, body, ok := statusOf(err)
	return ok && strings.HasPrefix(strings.ToLower(body), "cannot find ")
}

// IsLinkOfMissing reports whether an object to be written links one that does not
// exist (500 "No such ACL policy with ID …").
func IsLinkOfMissing(err error) bool {
	_, body, ok := statusOf(err)
	return ok && strings.Contains(body, "No such ACL ")
}

// IsDuplicate reports whether an object with the name, or a token with the IDs, already exists.
func IsDuplicate(err error) bool {
	_, body, ok := statusOf(err)
	return ok && (strings.HasSuffix(body, "already exists") || strings.HasSuffix(body, "is already in use"))
}

// DuplicateError is an answer that IsDuplicate recognizes, for cases in which Consul itself does not give it.
func DuplicateError(kind string) error {
	return api.StatusError{Code: http.StatusInternalServerError, Body: "the " + kind + " already exists"}
}

// UpdateOfMissingError is an answer that IsUpdateOfMissing recognizes, for cases in which Consul itself does not give it.
func UpdateOfMissingError(kind string) error {
	return api.StatusError{Code: http.StatusInternalServerError, Body: "cannot find " + kind}
}

var lacksPermission = regexp.MustCompile(`Permission denied: token with AccessorID '([^']*)' lacks permission '([^']*)'`)

// AsPermissionError translates a refusal because of a missing right; nil if the error is not one.
func AsPermissionError(err error) *PermissionError {
	code, body, ok := statusOf(err)
	if !ok || code != http.StatusForbidden || !strings.HasPrefix(body, "Permission denied") {
		return nil
	}
	if m := lacksPermission.FindStringSubmatch(body); m != nil {
		return &PermissionError{AccessorID: m[1], Permission: m[2]}
	}
	return &PermissionError{}
}

var resetIndex = regexp.MustCompile(`(?:ACL bootstrap no longer allowed \(|Invalid bootstrap reset index \(.*)reset index: (\d+)\)`)

// Bootstrapped reports whether the ACL system was bootstrapped before, and returns the index that allows
// another bootstrap.
func Bootstrapped(err error) (index uint64, ok bool) {
	_, body, isStatus := statusOf(err)
	m := resetIndex.FindStringSubmatch(body)
	if !isStatus || m == nil {
		return 0, false
	}
	index, err = strconv.ParseUint(m[1], 10, 64)
	return index, err == nil
}

// PermissionError says that the management token lacks a right.
type PermissionError struct {
	// AccessorID of the token and the Permission that it lacks, such as
	// "acl:write"; "" where Consul did not say.
	AccessorID, Permission string
}

// Error implements error.
func (e *PermissionError) Error() string {
	if e.Permission == "" {
		return "the management token lacks a right"
	}
	return fmt.Sprintf("the management token %s lacks the right %s", e.AccessorID, e.Permission)
}
