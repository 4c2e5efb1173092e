{{- /* Names */ -}}
{{- define "okid-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 53 | trimSuffix "-" }}
{{- end }}

{{- define "okid-operator.fullname" -}}
{{- $name := include "okid-operator.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "okid-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "okid-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "okid-operator.leaseName" -}}
{{- default (include "okid-operator.fullname" .) .Values.leaderElection.leaseName }}
{{- end }}

{{- define "okid-operator.leaseNamespace" -}}
{{- default .Release.Namespace .Values.leaderElection.leaseNamespace }}
{{- end }}

{{- /* Labels: a dict with root and component */ -}}
{{- define "okid-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "okid-operator.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "okid-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "okid-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* The annotations of an object: a dict with root and of the object's own. Nothing if there are none. */ -}}
{{- define "okid-operator.annotations" -}}
{{- with mergeOverwrite (deepCopy .root.Values.commonAnnotations) (.own | default dict) -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The reference of an image: a dict with root and image */ -}}
{{- define "okid-operator.imageReference" -}}
{{- $registry := ternary (printf "%s/" .image.registry) "" (ne .image.registry "") }}
{{- if .image.digest }}
{{- printf "%s%s@%s" $registry .image.repository .image.digest }}
{{- else }}
{{- printf "%s%s:%s" $registry .image.repository (default .root.Chart.AppVersion .image.tag) }}
{{- end }}
{{- end }}

{{- define "okid-operator.image" -}}
{{- include "okid-operator.imageReference" (dict "root" . "image" .Values.image) }}
{{- end }}

{{- /* Portals */ -}}
{{- define "okid-operator.sandboxUrl" -}}
{{- printf "http://%s-sandbox.%s.svc:8090" (include "okid-operator.fullname" .) .Release.Namespace }}
{{- end }}

{{- /* The allowed portals as a JSON list. Empty leaves the choice to the operator. */ -}}
{{- define "okid-operator.allowedPortals" -}}
{{- $portals := .Values.portals.allowed }}
{{- if .Values.sandbox.enabled }}
{{- $portals = append $portals (include "okid-operator.sandboxUrl" .) }}
{{- end }}
{{- toJson $portals }}
{{- end }}

{{- define "okid-operator.defaultPortal" -}}
{{- if and .Values.webhook.service.loadBalancerSourceRanges (ne .Values.webhook.service.type "LoadBalancer") }}
{{- fail "webhook.service.loadBalancerSourceRanges has an effect only with webhook.service.type LoadBalancer: use networkPolicy.webhookFrom" }}
{{- end }}
{{- $portals := include "okid-operator.allowedPortals" . | fromJsonArray }}
{{- if .Values.portals.default }}
{{- .Values.portals.default }}
{{- else if $portals }}
{{- first $portals }}
{{- else -}}
https://verify.test.okid.io
{{- end }}
{{- end }}

{{- /* The port of a URL. */ -}}
{{- define "okid-operator.urlPort" -}}
{{- $url := urlParse . }}
{{- $port := regexFind ":[0-9]+$" $url.host }}
{{- if $port }}
{{- trimPrefix ":" $port }}
{{- else if eq $url.scheme "http" -}}
80
{{- else -}}
443
{{- end }}
{{- end }}

{{- /* The ports of portals, proxy and stores, as a JSON list of texts. */ -}}
{{- define "okid-operator.egressPorts" -}}
{{- $urls := concat (include "okid-operator.allowedPortals" . | fromJsonArray) .Values.evidence.allowedEndpoints }}
{{- if .Values.portals.proxy.url }}
{{- $urls = append $urls .Values.portals.proxy.url }}
{{- end }}
{{- range .Values.evidence.stores }}
{{- range $option, $value := .options | default dict }}
{{- if and (kindIs "string" $value) (regexMatch "^https?://" $value) }}
{{- $urls = append $urls $value }}
{{- end }}
{{- end }}
{{- end }}
{{- $ports := list "443" }}
{{- range $urls }}
{{- $ports = append $ports (include "okid-operator.urlPort" .) }}
{{- end }}
{{- range .Values.networkPolicy.egressPorts }}
{{- $ports = append $ports (. | int | toString) }}
{{- end }}
{{- $ports | uniq | toJson }}
{{- end }}

{{- /* Certificate authorities: true if the values have some, or nothing. */ -}}
{{- define "okid-operator.hasCa" -}}
{{- if or .pem .configMapName .secretName }}true{{ end }}
{{- end }}

{{- /* The volume of certificate authorities: a dict with root, ca and name. */ -}}
{{- define "okid-operator.caVolume" -}}
- name: {{ .name }}
{{- if .ca.secretName }}
  secret:
    secretName: {{ .ca.secretName }}
{{- else }}
  configMap:
    name: {{ .ca.configMapName | default (printf "%s-%s" (include "okid-operator.fullname" .root) .name) }}
{{- end }}
    items:
    - key: {{ ternary "ca.crt" .ca.key (and (not .ca.secretName) (not .ca.configMapName)) }}
      path: ca.crt
{{- end }}

{{- /* The names under which notifications arrive, as the file that the operator reads. */ -}}
{{- define "okid-operator.webhooksFile" -}}
webhooks:
{{- range .Values.webhook.names }}
- {{ merge (dict "secretsFile" (printf "/etc/okid-operator/webhooks/%s/secrets" .name)) (omit . "secretName" "secretKey") | toYaml | nindent 2 | trim }}
{{- end }}
{{- end }}

{{- /* Rules across values, which the schema cannot express. */ -}}
{{- define "okid-operator.validate" -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.leaderElection.enabled) }}
{{- fail "replicas is greater than 1 and leaderElection.enabled is false: enable it, or run one replica" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled }}
{{- fail "metrics.serviceMonitor.enabled and metrics.podMonitor.enabled are both true: Prometheus would scrape each Pod twice; enable one of them" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.service.enabled) }}
{{- fail "metrics.serviceMonitor.enabled needs metrics.service.enabled; without the Service, enable metrics.podMonitor" }}
{{- end }}
{{- if and .Values.evidence.stores .Values.evidence.storesSecret.name }}
{{- fail "evidence.stores and evidence.storesSecret.name are both set: use one of them" }}
{{- end }}
{{- range $name, $ca := dict "portals.ca" .Values.portals.ca "evidence.ca" .Values.evidence.ca }}
{{- if gt (len (compact (list $ca.pem $ca.configMapName $ca.secretName))) 1 }}
{{- fail (printf "%s: set only one of pem, configMapName and secretName" $name) }}
{{- end }}
{{- end }}
{{- if and .Values.portals.proxy.url .Values.portals.proxy.secretName }}
{{- fail "portals.proxy: set only one of url and secretName" }}
{{- end }}
{{- if and .Values.webhook.enabled (not .Values.webhook.names) }}
{{- fail "webhook.enabled needs webhook.names: add one for each portal that sends notifications" }}
{{- end }}
{{- if and .Values.webhook.enabled .Values.webhook.ingress.enabled (not .Values.webhook.ingress.host) }}
{{- fail "webhook.ingress.enabled needs webhook.ingress.host" }}
{{- end }}
{{- if and .Values.webhook.enabled .Values.webhook.httpRoute.enabled (not .Values.webhook.httpRoute.parentRefs) }}
{{- fail "webhook.httpRoute.enabled needs webhook.httpRoute.parentRefs: name the Gateway" }}
{{- end }}
{{- $portals := include "okid-operator.allowedPortals" . | fromJsonArray }}
{{- if and .Values.portals.default (not (has .Values.portals.default (default (list "https://verify.test.okid.io") $portals))) }}
{{- fail "portals.default is not one of portals.allowed: add it there" }}
{{- end }}
{{- range $portals }}
{{- if and (hasPrefix "http://" .) (not (or $.Values.portals.allowPlainHttp $.Values.sandbox.enabled)) }}
{{- fail (printf "portals.allowed has %s: an http:// portal needs portals.allowPlainHttp, and exposes the API key to the network" .) }}
{{- end }}
{{- end }}
{{- if and .Values.portals.proxy.url .Values.sandbox.enabled }}
{{- fail "sandbox.enabled and portals.proxy.url: requests to the sandbox would go through the proxy; use one of them" }}
{{- end }}
{{- end }}
