{{- /* What the operator may do where it watches. A test compares these rules with the list in src/permissions.rs. */ -}}
{{- define "okid-operator.watchedRules" -}}
- apiGroups: [okid.io]
  resources: [verifications]
  verbs:
  - watch   # follows the resources that are not settled
  - list    # lists them where the API server has no streaming lists, and one now and then to notice a restored backup
  - get     # reads one resource before a reconcile that may change it
  - patch   # adds and removes the finalizer of evidence with deletionPolicy: Delete; nothing else
{{- if .Values.rbac.ttlAfterFinished }}
  - delete  # deletes a finished resource whose spec.ttlAfterFinished has passed; nothing else
{{- end }}
- apiGroups: [okid.io]
  resources: [verifications/status]
  verbs:
  - patch   # writes the claim before a create, and all that status shows. Grant it to nobody else: it can forge a verdict
- apiGroups: [""]
  resources: [secrets]
  verbs:
  - get     # reads one by its name when needed: the API key, and the credentials of a store. Never lists
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs:
  - create  # reports what has happened to a Verification
  - patch   # counts an event that happens again
{{- end }}

{{- /* What the operator may do in its own namespace. */ -}}
{{- define "okid-operator.ownRules" -}}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs:
  - create  # reports about its own Pod what a namespace that is being deleted accepts no event for
{{- if and .Values.leaderElection.enabled (eq (include "okid-operator.leaseNamespace" .) .Release.Namespace) }}
{{ include "okid-operator.leaseRules" . }}
{{- end }}
{{- end }}

{{- /* What the operator may do in the namespace of the Lease. */ -}}
{{- define "okid-operator.leaseRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs:
  - create  # creates the Lease once; a name cannot limit this verb
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "okid-operator.leaseName" . }}]
  verbs:
  - get     # sees who leads
  - update  # acquires, renews and releases the leadership
{{- end }}

{{- /* What `okid-operator release-finalizers` may do where the operator watched. */ -}}
{{- define "okid-operator.releaseWatchedRules" -}}
- apiGroups: [okid.io]
  resources: [verifications]
  verbs:
  - list    # finds the resources that have the operator's finalizer
  - patch   # removes the finalizer
{{- end }}

{{- /* What `okid-operator release-finalizers` may do in its own namespace. */ -}}
{{- define "okid-operator.releaseOwnRules" -}}
- apiGroups: [apps]
  resources: [deployments/scale]
  resourceNames: [{{ include "okid-operator.fullname" . }}]
  verbs:
  - patch   # stops the operator, which would add the finalizer again
- apiGroups: [""]
  resources: [pods]
  verbs:
  - list    # waits until the operator's Pods have ended
{{- end }}

{{- /*
The roles and bindings of one ServiceAccount: a dict with root, component, name, account, annotations, and the rules: watched,
own, and lease if the Lease is in another namespace. There is no ClusterRole if it watches a list of namespaces.
*/ -}}
{{- define "okid-operator.roles" -}}
{{- $context := . }}
{{- $root := .root }}
{{- $labels := include "okid-operator.labels" (dict "root" $root "component" .component) }}
{{- $annotations := include "okid-operator.annotations" (dict "root" $root "own" .annotations) }}
{{- if $root.Values.watch.namespaces }}
{{- range $root.Values.watch.namespaces }}
{{- include "okid-operator.namespaceRole" (dict "context" $context "name" $context.name "namespace" . "rules" $context.watched) }}
{{- end }}
{{- else }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $context.name }}
  labels:
    {{- $labels | nindent 4 }}
  {{- with $annotations }}{{ . | nindent 2 }}{{ end }}
rules:
{{ $context.watched }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $context.name }}
  labels:
    {{- $labels | nindent 4 }}
  {{- with $annotations }}{{ . | nindent 2 }}{{ end }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $context.name }}
subjects:
- kind: ServiceAccount
  name: {{ $context.account }}
  namespace: {{ $root.Release.Namespace }}
{{- end }}
{{- include "okid-operator.namespaceRole" (dict "context" $context "name" (printf "%s-own-namespace" $context.name) "namespace" $root.Release.Namespace "rules" $context.own) }}
{{- with $context.lease }}
{{- include "okid-operator.namespaceRole" (dict "context" $context "name" (printf "%s-lease" $context.name) "namespace" (include "okid-operator.leaseNamespace" $root) "rules" .) }}
{{- end }}
{{- end }}

{{- /* A Role in a namespace and its binding: a dict with name, namespace, rules, and context, the dict of the roles. */ -}}
{{- define "okid-operator.namespaceRole" }}
{{- $root := .context.root }}
{{- $labels := include "okid-operator.labels" (dict "root" $root "component" .context.component) }}
{{- $annotations := include "okid-operator.annotations" (dict "root" $root "own" .context.annotations) }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ .name }}
  namespace: {{ .namespace }}
  labels:
    {{- $labels | nindent 4 }}
  {{- with $annotations }}{{ . | nindent 2 }}{{ end }}
rules:
{{ .rules }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ .name }}
  namespace: {{ .namespace }}
  labels:
    {{- $labels | nindent 4 }}
  {{- with $annotations }}{{ . | nindent 2 }}{{ end }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ .name }}
subjects:
- kind: ServiceAccount
  name: {{ .context.account }}
  namespace: {{ $root.Release.Namespace }}
{{- end }}
