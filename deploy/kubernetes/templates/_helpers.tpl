{{- define "gateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* 46 characters: with "-internal" a Service has 63, and a pod, which gets 17, has one that node_name takes. */}}
{{- define "gateway.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 46 | trimSuffix "-" }}
{{- else if contains (include "gateway.name" .) .Release.Name }}
{{- .Release.Name | trunc 46 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "gateway.name" .) | trunc 46 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "gateway.selector" -}}
app.kubernetes.io/name: {{ include "gateway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "gateway.labels" -}}
{{ include "gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The settings that come from the Secret: by name in secret.keys the variable. */}}
{{- define "gateway.secretVariables" -}}
redisUrl: GATEWAY_REDIS__URL
hmacSecret: GATEWAY_AUTH__HMAC_SECRET
hmacSecretPrevious: GATEWAY_AUTH__HMAC_SECRET_PREVIOUS
apiKeys: GATEWAY_API__KEYS
{{- end }}

{{/* Seconds from SIGTERM to the last close, rounded up. Defaults of the gateway where the settings have none. */}}
{{- define "gateway.drainSeconds" -}}
{{- $drain := .Values.settings.drain | default dict }}
{{- $window := ternary 10 $drain.window (kindIs "invalid" $drain.window) }}
{{- addf ($drain.delay | default 0) $window | ceil | int }}
{{- end }}

{{/* After the last close a node waits for answers, tells Redis that it leaves, and ends: 2 s, on a busy machine more. */}}
{{- define "gateway.graceSeconds" -}}
{{- $drain := include "gateway.drainSeconds" . | int }}
{{- $least := add $drain 5 | int }}
{{- $grace := .Values.terminationGracePeriodSeconds }}
{{- if kindIs "invalid" $grace }}
{{- add $drain 10 }}
{{- else if lt ($grace | int) $least }}
{{- fail (printf "terminationGracePeriodSeconds = %d: shorter than settings.drain.delay + settings.drain.window and 5 s to end (%d s); the node would be killed with clients on it. Leave it unset, or set %d or more" ($grace | int) $least $least) }}
{{- else }}
{{- $grace | int }}
{{- end }}
{{- end }}

{{- define "gateway.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}
