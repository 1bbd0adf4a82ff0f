"use strict";
// Made of openapi.yaml by build.mjs.
Object.defineProperty(exports, "__esModule", { value: true });
