package acl

// Templates is templates, for the test that compares them with Consul's.
var Templates = templates
