{{/* Values that are right one by one and wrong together, or in the wrong place. Each text names what to change. */}}
{{- define "gateway.refusals" -}}
{{- $settings := .Values.settings }}
{{- $own := dict
  "listen" "the chart listens on listenHost:8000; service.port is the one of clients"
  "internal_listen" "the chart listens on listenHost:9000"
  "workers" "a pod is one node; set replicas or autoscaling"
  "node_name" "a node has the name of its pod"
}}
{{- range $name, $instead := $own }}
{{- if hasKey $settings $name }}
{{- fail (printf "settings.%s: set by the chart: %s" $name $instead) }}
{{- end }}
{{- end }}
{{- $secret := list (list "redis" "url" "redisUrl") (list "auth" "hmac_secret" "hmacSecret") (list "auth" "hmac_secret_previous" "hmacSecretPrevious") (list "api" "keys" "apiKeys") }}
{{- range $secret }}
{{- if hasKey (index $settings (index . 0) | default dict) (index . 1) }}
{{- fail (printf "settings.%s.%s: secrets do not belong in a ConfigMap; name the key of a Secret in secret.keys.%s" (index . 0) (index . 1) (index . 2)) }}
{{- end }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if hasPrefix "GATEWAY_" .name }}
{{- fail (printf "extraEnv: %s: settings stand in settings, secrets in secret.keys; from here they would change what the chart computes with" .name) }}
{{- end }}
{{- end }}
{{- $several := or .Values.autoscaling.enabled (gt (int .Values.replicas) 1) }}
{{- if and $several (not .Values.secret.keys.redisUrl) }}
{{- fail "secret.keys.redisUrl is empty: several nodes need a Redis between them, without one messages stay on the node they came to; set it, or replicas to 1" }}
{{- end }}
{{- if .Values.secret.create }}
{{- include "gateway.secretRefusals" . }}
{{- end }}
{{- if and (or $settings.no_auth $settings.demo) (not $settings.allow_open_network) }}
{{- fail "settings.no_auth and settings.demo open the gateway to everybody who reaches a pod; set settings.allow_open_network if that is what you want" }}
{{- end }}
{{- include "gateway.memoryRefusal" . }}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- fail (printf "autoscaling.minReplicas = %d: more than maxReplicas = %d" (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
{{- fail "ingress.enabled, but ingress.hosts is empty: name the host of the gateway" }}
{{- end }}
{{- end }}

{{- define "gateway.secretRefusals" -}}
{{- $data := .Values.secret.data }}
{{- range $name, $key := .Values.secret.keys }}
{{- if and $key (not (index $data $name)) }}
{{- fail (printf "secret.create, but secret.data.%s is empty: set it, or secret.keys.%s to \"\" if it is not used" $name $name) }}
{{- end }}
{{- end }}
{{- if and $data.redisUrl (not (regexMatch "^(redis|rediss|unix)://" $data.redisUrl)) }}
{{- fail "secret.data.redisUrl: expected redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], or rediss:// for TLS" }}
{{- end }}
{{- range $name := list "hmacSecret" "hmacSecretPrevious" }}
{{- include "gateway.weakness" (dict "name" $name "value" (index $data $name)) }}
{{- end }}
{{- range $key := splitList "," $data.apiKeys }}
{{- include "gateway.weakness" (dict "name" "apiKeys" "value" (trim $key)) }}
{{- end }}
{{- end }}

{{- define "gateway.weakness" -}}
{{- if and (hasPrefix "<" .value) (hasSuffix ">" .value) }}
{{- fail (printf "secret.data.%s: a placeholder in angle brackets; `openssl rand -hex 32` makes a secret" .name) }}
{{- end }}
{{- if regexMatch "(?i)^\\$?\\{.*\\}$|change[ _-]?(me|this|it)|replace[ _-]?(me|this|with)" (.value | default "") }}
{{- fail (printf "secret.data.%s: a placeholder; `openssl rand -hex 32` makes a secret" .name) }}
{{- end }}
{{- if and .value (lt (len .value) 32) }}
{{- fail (printf "secret.data.%s: expected 32 bytes or more; `openssl rand -hex 32` makes one" .name) }}
{{- end }}
{{- end }}

{{/* The memory that a node may need by its own limits (README, Scale), without what the kernel keeps for slow clients. */}}
{{- define "gateway.memoryRefusal" -}}
{{- $limit := (.Values.resources.limits | default dict).memory | default "" | toString }}
{{- $limits := .Values.settings.limits | default dict }}
{{- if and (regexMatch "^[0-9]+(Mi|Gi|M|G)$" $limit) $limits.connections $limits.waiting }}
{{- $unit := index (dict "Mi" 1.0 "Gi" 1024.0 "M" 0.953 "G" 953.6) (regexFind "[A-Z].*$" $limit) }}
{{- $given := mulf (regexFind "^[0-9]+" $limit | float64) $unit | floor | int }}
{{- $least := addf 80 (mulf $limits.connections 0.005) (mulf $limits.waiting 1.2e-6) | ceil | int }}
{{- if lt $given $least }}
{{- fail (printf "resources.limits.memory = %s: less than a node needs by settings.limits.connections and settings.limits.waiting (%d MiB); lower these, or raise it" $limit $least) }}
{{- end }}
{{- end }}
{{- end }}
